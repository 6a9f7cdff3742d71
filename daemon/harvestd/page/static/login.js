// @ts-check
/** Sends the code behind `#` of the address, which browsers keep to themselves; without one it is typed. */

const form = document.getElementById("login");
const field = document.getElementById("code");
const code = location.hash.slice(1);

if (form instanceof HTMLFormElement && field instanceof HTMLInputElement && code) {
  history.replaceState(null, "", location.pathname);
  field.value = code;
  form.requestSubmit();
}

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  if (button instanceof HTMLElement) void navigator.clipboard.writeText(button.dataset.copy ?? "");
});
