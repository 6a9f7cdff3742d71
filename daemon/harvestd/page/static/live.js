// @ts-check
/**
 * News of the daemon for all tabs of this browser, by one connection.
 *
 * Of the visible tabs one holds a lock and reads the stream; it passes each message to the others. A hidden tab reads
 * and requests nothing, and gives the lock to another one.
 */

/** @typedef {{number: number, clock: string}} News  The number of the last change, and the daemon's time of day. */

const LOCK = "harvestd-stream";
const channel = new BroadcastChannel("harvestd-news");

/** @type {AbortController | null} */
let reading = null;

/**
 * Read the stream until `signal` is aborted.
 * @param {AbortSignal} signal
 * @param {(news: News) => void} handle
 * @param {() => void} refused
 * @returns {Promise<void>}
 */
function read(signal, handle, refused) {
  return new Promise((resolve) => {
    const source = new EventSource("/changes");
    source.onmessage = (message) => {
      const news = { number: Number(message.lastEventId), clock: String(message.data) };
      channel.postMessage(news);
      handle(news);
    };
    // A stream that was refused for good, such as after the session's end, is tried again more slowly.
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      refused();
      setTimeout(resolve, 5000);
    };
    signal.addEventListener("abort", () => {
      source.close();
      resolve();
    });
  });
}

/**
 * Compete for the stream while this tab is visible.
 * @param {(news: News) => void} handle
 * @param {() => void} refused
 */
async function compete(handle, refused) {
  const controller = new AbortController();
  reading = controller;
  while (!controller.signal.aborted) {
    try {
      await navigator.locks.request(LOCK, { signal: controller.signal }, () =>
        read(controller.signal, handle, refused),
      );
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) throw error;
    }
  }
}

/**
 * Call `handle` with each message, while this tab is visible; `shown` when it becomes visible, and `refused` when the
 * daemon answers without a stream.
 * @param {(news: News) => void} handle
 * @param {() => void} shown
 * @param {() => void} refused
 */
export function follow(handle, shown, refused) {
  channel.onmessage = (message) => {
    if (!document.hidden) handle(message.data);
  };
  const change = () => {
    if (document.hidden) {
      reading?.abort();
      reading = null;
    } else if (reading === null) {
      shown();
      void compete(handle, refused);
    }
  };
  document.addEventListener("visibilitychange", change);
  addEventListener("pagehide", () => reading?.abort());
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      reading = null;
      change();
    }
  });
  change();
}
