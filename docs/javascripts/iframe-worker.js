/* A page that is opened as a file may not start a worker, and the search is one. There its script
   runs in a hidden frame of the page. The name is what the plug-in "offline" of mkdocs.yml looks
   for: without a file of it, it would load one from another host. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentDocument;
      inside.open(); // else some browsers replace the frame's document later, scripts and all
      inside.write("<!doctype html><title>Search</title><body>");
      inside.close();
      this.inner = frame.contentWindow;
      this.inner.postMessage = (data) =>
        this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.createElement("script");
      script.src = address;
      this.loaded = new Promise((resolve, reject) => {
        script.addEventListener("load", resolve);
        script.addEventListener("error", reject);
      });
      inside.body.append(script);
    }

    postMessage(data) {
      this.loaded.then(() =>
        this.inner.dispatchEvent(new this.inner.MessageEvent("message", { data })),
      );
    }
  };
}
