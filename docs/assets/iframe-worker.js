// A page opened from a disk (file:) may start no worker, so the search index would be out of reach.
// Here a hidden frame plays the worker: same messages, one thread. Material's offline plugin would
// fetch such a shim from elsewhere (unpkg.com/iframe-worker); this one is ours, and local.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #inside;
    #ready;

    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.#inside = frame.contentWindow;
      const load = (address) =>
        new Promise((resolve) => {
          const script = this.#inside.document.createElement("script");
          script.src = address;
          script.onload = script.onerror = resolve;
          this.#inside.document.body.append(script);
        });
      this.#inside.postMessage = (data) =>
        this.dispatchEvent(new MessageEvent("message", { data }));
      this.#inside.importScripts = (...urls) =>
        urls.reduce((before, one) => before.then(() => load(one)), Promise.resolve());
      this.#ready = load(url);
    }

    postMessage(data) {
      const { MessageEvent: Inner } = this.#inside;
      this.#ready.then(() => this.#inside.dispatchEvent(new Inner("message", { data })));
    }
  };
}
