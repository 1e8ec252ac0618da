// The list of videos: what state each is in, a filter, how far the person is.

import { byId, make, plural } from "./dom.js";

export class Sidebar {
  constructor(choose) {
    this.choose = choose;
    this.videos = [];
    this.buttons = new Map();
    this.current = null;
    this.list = byId("list");
    this.none = make("li", { class: "none" }, "No video matches the filter.");
    byId("filter").addEventListener("input", () => this.filter());
    byId("filter-state").addEventListener("change", () => this.filter());
    this.list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.choose(Number(button.dataset.key));
    });
  }

  set(videos) {
    const before = new Map(this.videos.map((video) => [video.key, JSON.stringify(video)]));
    const same = videos.length === this.videos.length && videos.every((video, i) => video.key === this.videos[i].key);
    this.videos = videos;
    if (!same) this.#build();
    else for (const video of videos) if (before.get(video.key) !== JSON.stringify(video)) this.#fill(this.buttons.get(video.key), video);
    this.filter();
    this.#progress();
  }

  update(summary) {
    const at = this.videos.findIndex((video) => video.key === summary.key);
    if (at < 0) return;
    this.videos[at] = { ...this.videos[at], ...summary };
    this.#fill(this.buttons.get(summary.key), this.videos[at]);
    this.#progress();
  }

  select(key) {
    this.buttons.get(this.current)?.removeAttribute("aria-current");
    this.buttons.get(key)?.setAttribute("aria-current", "true");
    this.current = key;
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

  // Shows what the filter lets through; thousands of rows are only hidden, not made anew.
  filter() {
    const shown = new Set(this.#shown().map((video) => video.key));
    for (const [key, button] of this.buttons) {
      if (button.parentElement.hidden === shown.has(key)) button.parentElement.hidden = !shown.has(key);
    }
    this.none.hidden = shown.size > 0;
    this.select(this.current);
  }

  #build() {
    this.buttons.clear();
    this.list.replaceChildren(...this.videos.map((video) => {
      const button = make("button", { type: "button" },
        make("span", { class: "dot" }), make("span", { class: "id" }), make("span", { class: "count" }));
      button.dataset.key = video.key;
      this.buttons.set(video.key, button);
      this.#fill(button, video);
      return make("li", {}, button);
    }), this.none);
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
