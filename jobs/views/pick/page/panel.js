// The right side: objects and their names, what is said on this frame, prompted frames, proposals, problems.

import { byId, icon, make, plural } from "./dom.js";
import { inkOn } from "./stage.js";

const KINDS = { mask: ["mask", "mask"], box: ["box", "box"], points: ["plus", "points"], absent: ["absent", "absent"] };

export class Panel {
  // app: see app.js
  constructor(app) {
    this.app = app;
    this.naming = null; // the name field that is being typed in: the list is not rebuilt under it
  }

  render() {
    // Elements are made anew: whoever was at one of them by keyboard stays there.
    const at = document.activeElement?.closest("#panel") ? document.activeElement.getAttribute("aria-label") : null;
    this.#objects();
    this.#frame();
    this.#marks();
    this.#proposals();
    this.#suggestions();
    this.#problems();
    if (at && !document.activeElement?.closest("#panel")) {
      document.querySelector(`#panel [aria-label="${CSS.escape(at)}"]`)?.focus({ preventScroll: true });
    }
  }

  focusName() {
    const field = byId("objects").querySelector("li.active .name");
    field?.focus();
    field?.select();
  }

  // Lets the person type another number for the active object.
  editId() {
    const chip = byId("objects").querySelector("li.active .chip");
    const id = this.app.active;
    if (!chip || !this.app.clip?.ids.includes(id)) return;
    const field = make("input", { type: "number", min: "1", value: String(id), class: "name" });
    field.setAttribute("aria-label", `New number of object ${id}`);
    let over = false;
    const finish = (keep) => {
      if (over) return;
      over = true;
      const next = Number(field.value);
      this.naming = null;
      if (keep && Number.isInteger(next) && next >= 1 && next !== id) this.app.edits.changeId(id, next);
      else this.render();
      this.app.stage.canvas.focus({ preventScroll: true });
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") finish(true);
      if (event.key === "Escape") finish(false);
    });
    field.addEventListener("blur", () => finish(true));
    chip.replaceWith(field);
    this.naming = field;
    field.focus();
    field.select();
  }

  #objects() {
    if (this.naming && document.activeElement === this.naming) return;
    const { app } = this;
    const ids = new Set(app.clip ? app.clip.ids : []);
    if (app.clip) ids.add(app.active);
    byId("objects").replaceChildren(...[...ids].sort((a, b) => a - b).map((id) => this.#object(id)));
  }

  #object(id) {
    const { app } = this;
    const active = id === app.active;
    const chip = make("button", { class: "chip", type: "button", title: active ? "Give it another number \u2002 I" : `Make object ${id} active` }, String(id));
    chip.style.background = app.colour(id);
    chip.style.color = inkOn(app.colour(id));
    chip.setAttribute("aria-label", `Make object ${id} active`);
    chip.setAttribute("aria-pressed", String(active));
    chip.addEventListener("click", () => { if (active) this.editId(); else app.activate(id); });
    const name = make("input", { class: "name", value: app.labelOf(id), placeholder: `object ${id}`, maxLength: 200, spellcheck: false, autocomplete: "off" });
    name.setAttribute("aria-label", `Name of object ${id}`);
    name.addEventListener("focus", () => { this.naming = name; if (!active) app.activate(id); });
    name.addEventListener("keydown", (event) => {
      if (event.key === "Escape") name.value = app.labelOf(id);
      if (event.key === "Enter" || event.key === "Escape") app.stage.canvas.focus({ preventScroll: true });
    });
    const clip = app.clip;
    name.addEventListener("blur", () => {
      if (this.naming === name) this.naming = null;
      // Later: the list is made anew, and what is being clicked now must still be there.
      setTimeout(() => app.edits.setLabel(id, name.value.trim(), clip));
    });
    const [picture, kind] = KINDS[app.kindOf(id)] ?? [null, ""];
    const more = make("button", { class: "more", type: "button", title: "Remove the object from every frame" }, icon("trash"));
    more.setAttribute("aria-label", `Remove object ${id} from every frame`);
    more.disabled = !app.clip.ids.includes(id);
    more.addEventListener("click", () => app.edits.removeObject(id));
    return make("li", { class: active ? "active" : "" }, chip, name,
      make("span", { class: "kind", title: kind && `${kind} on this frame` }, picture && icon(picture), kind || "–"), more);
  }

  #frame() {
    const { app } = this;
    const here = app.clip?.prompt(app.active, app.frame);
    byId("absent-text").textContent = `Object ${app.active} absent here`;
    byId("absent").disabled = !app.ready() || app.kindOf(app.active) === "absent" || !app.clip.ids.some((id) => id === app.active);
    byId("remove-text").textContent = `Remove object ${app.active} here`;
    byId("remove").disabled = !here;
    const complete = byId("complete");
    complete.disabled = !app.clip?.framesWithPrompts().has(app.frame);
    complete.checked = app.clip?.state.complete.has(app.frame) ?? false;
  }

  #marks() {
    const { app } = this;
    const frames = app.clip ? [...app.clip.framesWithPrompts()] : [];
    byId("marks").replaceChildren(...frames.map(([frame, ids]) => {
      const button = make("button", { type: "button" }, ...ids.slice(0, 6).map((id) => {
        const dot = make("i");
        dot.style.background = app.colour(id);
        return dot;
      }), String(frame));
      button.setAttribute("aria-current", String(frame === app.frame));
      button.setAttribute("aria-label", `Go to frame ${frame} with ${plural(ids.length, "object")}`);
      button.addEventListener("click", () => app.goTo(frame));
      return make("li", {}, button);
    }));
    if (!frames.length) byId("marks").append(make("li", { class: "none" }, "None yet."));
  }

  #proposals() {
    const { app } = this;
    byId("proposals-section").hidden = !app.detector;
    if (!app.detector) return;
    byId("proposals-name").textContent = `by ${app.detector.split("/").pop()}`;
    byId("proposals").replaceChildren(...app.proposals.map((proposal, index) => {
      const button = make("button", { type: "button", class: index === app.hovered ? "on" : "" },
        make("span", {}, proposal.title), make("span", { class: "score" }, proposal.score.toFixed(2)));
      button.setAttribute("aria-label", `Take proposal ${proposal.title}, score ${proposal.score.toFixed(2)}`);
      button.addEventListener("click", () => app.edits.accept(index));
      button.addEventListener("pointerenter", () => app.hover(index));
      return make("li", {}, button);
    }));
    if (!app.proposals.length) {
      byId("proposals").append(make("li", { class: "none" }, app.proposalsState));
    }
  }

  #suggestions() {
    const { app } = this;
    const open = app.clip?.openSuggestions() ?? [];
    byId("suggestions-section").hidden = !open.length;
    byId("suggestions").replaceChildren(...open.map((item) => {
      const button = make("button", { type: "button" },
        make("span", { class: "where" }, `${item.frame}${item.object_id ? ` · object ${item.object_id}` : ""}`), make("span", { class: "why" }, item.message));
      button.setAttribute("aria-current", String(item.frame === app.frame));
      button.addEventListener("click", () => { if (item.object_id) app.activate(item.object_id); app.goTo(item.frame); });
      return make("li", {}, button);
    }));
  }

  #problems() {
    const { app } = this;
    const told = app.clip?.told.problems ?? [];
    byId("problems-section").hidden = !told.length;
    byId("problems").replaceChildren(...told.map((text) => make("li", {}, text)));
    const others = app.clip?.others ?? [];
    byId("others-section").hidden = !others.length;
    byId("others").replaceChildren(...others.map((item) => {
      const button = make("button", { type: "button" }, "Remove");
      button.setAttribute("aria-label", `Remove prompt ${item.position + 1}`);
      button.addEventListener("click", () => app.edits.removeRecord(item));
      return make("li", {}, make("span", {}, item.message), button);
    }));
  }
}
