/*
 * Browsers start no Worker in a page that was opened from a folder. The search then runs in a hidden
 * frame, which this class makes look like a Worker: it is put in the Worker's place for such pages only.
 */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.ready = new Promise((resolve) => {
        window.addEventListener("message", (event) => {
          if (event.source !== frame.contentWindow) return;
          if (event.data === "worker is ready") return resolve(frame.contentWindow);
          const message = new MessageEvent("message", { data: event.data });
          this.dispatchEvent(message);
          if (this.onmessage) this.onmessage(message);
        });
      });
      // the worker's script answers by postMessage(data), without an origin
      frame.srcdoc = `<script>
        window.postMessage = (data) => window.parent.postMessage(data, "*");
      <\/script><script src="${new URL(url, document.baseURI)}"><\/script>
      <script>postMessage("worker is ready");<\/script>`;
      document.documentElement.append(frame);
    }
    postMessage(data) {
      this.ready.then((target) => window.postMessage.call(target, data, "*"));
    }
    terminate() {}
  };
}
