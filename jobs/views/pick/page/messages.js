// What the page says: short messages, that something takes long, that a video cannot be shown, what is saved.

import { byId, icon, make } from "./dom.js";

const TOAST_MS = 3500;

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}` : "");

export class Messages {
  say(text, bad = false) {
    const toast = byId("toast");
    toast.textContent = text;
    toast.classList.toggle("bad", bad);
    toast.classList.add("on");
    clearTimeout(this.toasting);
    this.toasting = setTimeout(() => toast.classList.remove("on"), bad ? 2 * TOAST_MS : TOAST_MS);
  }

  trouble(error) { this.say([sentence(error.message), sentence(error.remedy)].filter(Boolean).join(" "), true); }

  busy(text) {
    byId("busy").hidden = text === null;
    byId("busy-text").textContent = text ?? "";
  }

  notice(error, title, again, next) {
    this.busy(null);
    const retry = make("button", { type: "button", class: "text" }, "Try again");
    retry.addEventListener("click", () => { byId("notice").hidden = true; again(); });
    const on = make("button", { type: "button", class: "text" }, "Next video");
    on.addEventListener("click", next);
    const foreign = error.kind === "token" || error.status === 0;
    byId("notice").replaceChildren(icon("warning"), make("h2", {}, title), make("p", {}, error.message),
      make("p", { class: "remedy" }, sentence(error.remedy)),
      make("div", { class: "buttons" }, retry, foreign ? null : on));
    byId("notice").hidden = false;
  }

  saved(clips) {
    const failed = clips.find((clip) => clip.trouble && clip.unsaved);
    const working = clips.some((clip) => clip.unsaved);
    const bar = byId("saved");
    const text = failed ? "Not saved: trying again" : working ? "Saving…" : "All changes saved";
    if (bar.textContent === text) return;
    bar.className = failed ? "failed" : working ? "working" : "";
    bar.replaceChildren(icon(failed ? "warning" : "check"), text);
  }
}
