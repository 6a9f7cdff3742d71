// @ts-check
/**
 * The choice of experiments to compare: how many are ticked, eight at most, and kept in the address, so that another
 * order, other filters and a reload keep it. Filters apply as they are changed.
 */

const MOST = 8;
const FEWEST = 2;

const boxes = () =>
  [...document.querySelectorAll(".experiments input[name=id]")].filter((each) => each instanceof HTMLInputElement);

/** Return the chosen ids: those that are ticked, and those of the address whose rows are filtered away. */
function chosen() {
  const shown = boxes();
  const known = new Set(shown.map((each) => each.value));
  const others = new URLSearchParams(location.search).getAll("id").filter((each) => !known.has(each));
  return [...new Set([...others, ...shown.filter((each) => each.checked).map((each) => each.value)])];
}

/** @param {string} url @param {string[]} ids */
function withIds(url, ids) {
  const found = new URL(url, location.href);
  found.searchParams.delete("id");
  for (const id of ids) found.searchParams.append("id", id);
  return found.pathname + found.search;
}

/** Put ids into a form that rows which are not shown can't give. @param {HTMLFormElement} form @param {string[]} ids */
function put(form, ids) {
  for (const old of form.querySelectorAll("input[type=hidden][name=id]")) old.remove();
  for (const id of ids) {
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = "id";
    field.value = id;
    form.append(field);
  }
}

/** Show the choice everywhere. */
function show() {
  const ids = chosen();
  const count = document.getElementById("count");
  const go = document.getElementById("go");
  const clear = document.getElementById("clear");
  const filters = document.getElementById("filters");
  const compare = document.getElementById("compare");
  if (!count || !(go instanceof HTMLButtonElement) || !clear) return;
  const words = ids.length ? `${ids.length} chosen, ${MOST} at most` : "Tick two to eight to compare them";
  if (count.textContent !== words) count.textContent = words;
  go.textContent = ids.length ? `Compare ${ids.length}` : "Compare";
  go.disabled = ids.length < FEWEST || ids.length > MOST;
  clear.hidden = !ids.length;
  for (const each of boxes()) each.disabled = ids.length >= MOST && !each.checked;
  for (const link of document.querySelectorAll(".experiments thead a")) {
    if (link instanceof HTMLAnchorElement) link.href = withIds(link.href, ids);
  }
  if (filters instanceof HTMLFormElement) put(filters, ids);
  const shown = new Set(boxes().map((each) => each.value));
  if (compare instanceof HTMLFormElement) put(compare, ids.filter((id) => !shown.has(id)));
}

function keep() {
  history.replaceState(null, "", withIds(location.href, chosen()));
  show();
}

document.addEventListener("change", (event) => {
  const field = event.target;
  if (field instanceof HTMLInputElement && field.name === "id") keep();
  if (field instanceof HTMLSelectElement && field.form?.id === "filters") field.form.requestSubmit();
});

document.getElementById("compare")?.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const each of boxes()) each.checked = false;
  history.replaceState(null, "", withIds(location.href, []));
  show();
});

document.addEventListener("harvestd:shown", show);
addEventListener("pageshow", show);
show();
