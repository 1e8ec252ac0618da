// The list of videos: what state each is in, a filter, how far the person is.

import { byId, make, plural } from "./dom.js";

export class Sidebar {
  constructor(choose) {
    this.choose = choose;
    this.videos = [];
    this.buttons = new Map();
    this.current = null;
    this.list = byId("list");
    byId("filter").addEventListener("input", () => this.render());
    byId("filter-state").addEventListener("change", () => this.render());
    this.list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.choose(Number(button.dataset.key));
    });
  }

  set(videos) {
    this.videos = videos;
    this.render();
  }

  update(summary) {
    const at = this.videos.findIndex((video) => video.key === summary.key);
    if (at < 0) return;
    this.videos[at] = { ...this.videos[at], ...summary };
    const button = this.buttons.get(summary.key);
    if (button) this.#fill(button, this.videos[at]);
    this.#progress();
  }

  select(key) {
    this.current = key;
    for (const [one, button] of this.buttons) button.setAttribute("aria-current", String(one === key));
    this.buttons.get(key)?.scrollIntoView({ block: "nearest" });
  }

  // The next video in the list as it is filtered; `open`: the next one without prompts. null at the end.
  step(by, open = false) {
    const shown = this.#shown();
    let at = shown.findIndex((video) => video.key === this.current);
    if (at < 0) return shown[0]?.key ?? null; // the current one is filtered out
    for (at += by; at >= 0 && at < shown.length; at += by) if (!open || stateOf(shown[at]) === "open") return shown[at].key;
    return null;
  }

  render() {
    const shown = this.#shown();
    this.buttons.clear();
    this.list.replaceChildren(...shown.map((video) => {
      const button = make("button", { type: "button" },
        make("span", { class: "dot" }), make("span", { class: "id" }), make("span", { class: "count" }));
      button.dataset.key = video.key;
      this.buttons.set(video.key, button);
      this.#fill(button, video);
      return make("li", {}, button);
    }));
    if (!shown.length) this.list.append(make("li", { class: "none" }, "No video matches the filter."));
    this.select(this.current);
    this.#progress();
  }

  #shown() {
    const text = byId("filter").value.trim().toLowerCase(), state = byId("filter-state").value;
    return this.videos.filter((video) => (
      (video.video_id.toLowerCase().includes(text) || video.video.toLowerCase().includes(text))
      && (state === "all" || video.key === this.current || stateOf(video) === state
        || (state === "trouble" && (video.unreadable || video.problems.length > 0)))
    ));
  }

  #fill(button, video) {
    const state = stateOf(video);
    button.className = video.unreadable ? "bad" : video.problems.length ? "warn" : state;
    button.querySelector(".id").textContent = video.video_id;
    const count = video.unreadable ? "unreadable" : video.objects ? plural(video.objects, "object") : video.prompts ? "detector" : video.suggested ? plural(video.suggested, "suggestion") : "";
    button.querySelector(".count").textContent = count;
    button.title = [video.video, video.unreadable, ...video.problems].filter(Boolean).join("\n");
    const said = video.unreadable ? "unreadable" : count || "no prompt";
    button.setAttribute("aria-label", `${video.video_id}, ${said}${video.problems.length ? ", has problems" : ""}`);
  }

  #progress() {
    const done = this.videos.filter((video) => stateOf(video) === "done").length;
    const all = this.videos.length;
    byId("progress-text").textContent = `${done} of ${plural(all, "video")} prompted`;
    byId("progress-bar").style.width = `${all ? (100 * done) / all : 0}%`;
    const bar = document.querySelector(".progress");
    bar.setAttribute("aria-valuemax", String(all));
    bar.setAttribute("aria-valuenow", String(done));
  }
}

const stateOf = (video) => (video.prompts ? "done" : "open");
