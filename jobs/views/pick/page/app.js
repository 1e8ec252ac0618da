// The page: which video, frame and object are at hand, and how the parts work together.

import * as api from "./api.js";
import { Clip } from "./clip.js";
import { connect } from "./controls.js";
import { byId, clockTime, make, plural } from "./dom.js";
import { Edits } from "./edits.js";
import { Frames } from "./frames.js";
import { listen } from "./keys.js";
import { Mask } from "./mask.js";
import { Messages } from "./messages.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { Sidebar } from "./sidebar.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";

const LOOK_MS = 4000; // between looks at whether the manifest has changed on disk
const SLOW_MS = 350;
const TAKEN = 0.7; // overlap with an object's mask from which a proposal counts as taken
const HINTS = {
  select: "Click an object to make it active · drag to pan · wheel to zoom",
  box: "Drag a box around object {id}",
  brush: "Paint object {id} · Alt or right button erases · [ ] size",
  eraser: "Erase from object {id} · [ ] size",
  polygon: "Click around object {id} · Enter fills · Backspace takes a point back",
};

class App {
  constructor() {
    this.clips = new Map(); // key -> Clip, kept so that nothing unsaved is lost when moving on
    this.clip = null;
    this.frame = 0; // asked for
    this.shown = null; // on the canvas
    this.active = 1;
    this.pendingLabels = new Map(); // names of objects that are not drawn yet
    this.layers = new Map(); // id -> Layer of the shown frame
    this.layerOf = new Map(); // id -> the prompt that the layer shows
    this.found = []; // what the detector proposes on the shown frame
    this.proposals = []; // of these, what is not taken yet
    this.proposalsState = "";
    this.hovered = -1;
    this.hidden = false;
    this.colours = [];
    this.detector = null;
    this.opening = 0;
    this.stage = new Stage(byId("stage"));
    this.messages = new Messages();
    this.overlay = new Overlay(this);
    this.stage.paint = (context) => this.overlay.paint(context);
    this.stage.addEventListener("moved", () => { byId("zoom").textContent = `${Math.round(this.stage.scale * devicePixelRatio * 100)}%`; });
    this.tools = new Tools(this);
    this.sidebar = new Sidebar((key) => this.open(key));
    this.edits = new Edits(this);
    this.panel = new Panel(this);
    this.timeline = new Timeline(byId("timeline"), byId("track"));
    connect(this);
    listen(this);
    this.tools.use("select");
    this.toolChanged();
  }

  async begin() {
    try {
      const told = await api.manifest();
      this.colours = told.colours;
      this.detector = told.proposals;
      byId("manifest").textContent = told.manifest.split("/").pop();
      byId("manifest").title = told.manifest;
      document.title = `${told.manifest.split("/").pop()} · pick`;
      this.#manifest(told);
      const wanted = Number(location.hash.slice(1));
      const first = told.videos.find((video) => location.hash && video.key === wanted)
        ?? told.videos.find((video) => !video.prompts) ?? told.videos[0];
      if (first) await this.open(first.key);
      setInterval(() => this.look(), LOOK_MS);
    } catch (error) {
      this.#notice(error, "This page cannot be used", () => this.begin());
    }
  }

  // ---- videos

  async open(key, frame = null) {
    this.panel.naming?.blur();
    const turn = ++this.opening;
    this.tools.cancel();
    this.frames?.close();
    this.frames = null;
    this.clip = null;
    this.shown = null;
    this.found = this.proposals = [];
    this.forgetLayers();
    this.stage.clear();
    this.sidebar.select(key);
    history.replaceState(null, "", `#${key}`);
    byId("notice").hidden = true;
    byId("time").textContent = byId("facts").textContent = "";
    this.refresh();
    const slow = setTimeout(() => this.messages.busy("Opening the video…"), SLOW_MS);
    try {
      const clip = await this.#clip(key);
      if (turn !== this.opening) return;
      this.clip = clip;
      this.frames = new Frames(clip);
      const prompted = [...clip.framesWithPrompts().keys()];
      this.active = clip.ids[0] ?? 1;
      this.stage.size = null; // another video is fitted
      byId("facts").textContent = this.#facts();
      await this.goTo(frame ?? prompted[0] ?? clip.told.start ?? 0);
    } catch (error) {
      if (turn === this.opening) this.#notice(error, "This video cannot be shown", () => this.open(key));
    } finally {
      clearTimeout(slow);
      if (turn === this.opening) {
        this.messages.busy(null);
        this.look(); // a video that was found to be unreadable is marked, one that was mended is not
      }
    }
  }

  async stepVideo(by, open = false) {
    const key = this.sidebar.step(by, open);
    if (key === null) this.say(open ? "Every further video has a prompt." : by > 0 ? "This is the last video." : "This is the first video.");
    else await this.open(key);
  }

  async #clip(key) {
    const kept = this.clips.get(key);
    if (kept?.unsaved) return kept;
    const told = await api.video(key);
    if (kept && kept.revision === told.revision) return kept;
    if (kept) {
      kept.done = [];
      kept.undone = [];
      kept.take(told);
      return kept;
    }
    const clip = new Clip(told);
    this.clips.set(key, clip);
    clip.addEventListener("change", () => { if (clip === this.clip) this.refresh(); this.#saved(); });
    clip.addEventListener("saved", (event) => this.sidebar.update(event.detail));
    clip.addEventListener("trouble", (event) => this.trouble(event.detail));
    return clip;
  }

  // ---- frames

  get last() { return (this.clip?.told.frames ?? 1) - 1; }

  async goTo(frame) {
    if (!this.clip) return;
    this.tools.cancel();
    this.frame = Math.max(0, Math.min(this.last, Math.round(frame)));
    const clip = this.clip, wanted = this.frame;
    this.refresh();
    const slow = setTimeout(() => this.messages.busy(`Frame ${wanted}…`), SLOW_MS);
    try {
      const found = await this.frames.get(wanted);
      if (!found || clip !== this.clip || (wanted !== this.frame && this.ready())) return;
      byId("notice").hidden = true;
      this.shown = wanted;
      this.frames.shown = found.bitmap;
      this.found = this.proposals = [];
      this.forgetLayers();
      this.stage.show(found.bitmap, { width: clip.told.width, height: clip.told.height });
      byId("time").textContent = found.seconds === null ? "" : clockTime(found.seconds);
      this.refresh();
      this.#propose();
    } catch (error) {
      if (clip === this.clip && wanted === this.frame) this.#notice(error, `Frame ${wanted} cannot be shown`, () => this.goTo(wanted));
    } finally {
      clearTimeout(slow);
      if (clip === this.clip && this.ready()) this.messages.busy(null);
    }
  }

  step(by) { return this.goTo(this.frame + by); }

  stepPrompted(by) {
    const frames = this.clip ? [...this.clip.framesWithPrompts().keys(), ...this.clip.openSuggestions().map((one) => one.frame)] : [];
    frames.sort((a, b) => a - b);
    const next = by > 0 ? frames.find((frame) => frame > this.frame) : frames.findLast((frame) => frame < this.frame);
    if (next === undefined) this.say(by > 0 ? "There is no prompted frame after this one." : "There is no prompted frame before this one.");
    else this.goTo(next);
  }

  // Whether the frame that is asked for is the one on the canvas.
  ready() { return this.clip !== null && this.shown === this.frame && this.stage.bitmap !== null; }

  // ---- objects

  colour(id) {
    if (id <= this.colours.length) return this.colours[id - 1];
    return this.colours[(id * 7) % this.colours.length] ?? "#ffffff";
  }

  labelOf(id) { return this.clip?.label(id) || this.pendingLabels.get(`${this.clip?.key}/${id}`) || ""; }

  kindOf(id) {
    const prompt = this.clip?.prompt(id, this.frame);
    return prompt?.kind === "mask" && prompt.counts.length < 2 ? "absent" : prompt?.kind ?? null;
  }

  activate(id) {
    this.tools.cancel();
    this.active = id;
    this.refresh();
  }

  // ---- proposals

  async #propose() {
    this.found = this.proposals = [];
    this.hovered = -1;
    if (!this.detector) return;
    const clip = this.clip, frame = this.frame;
    this.proposalsState = "Looking…";
    this.panel.render();
    try {
      const found = await api.proposals(clip.key, frame);
      if (clip !== this.clip || frame !== this.shown || frame !== this.frame) return;
      const { width, height } = this.stage.size;
      this.found = found.map((one) => {
        const mask = Mask.fromCounts(one.counts, width, height);
        const named = this.labelOf(one.object_id) || one.name;
        const title = !one.object_id ? one.name : named ? `${one.object_id} ${named}` : `object ${one.object_id}`;
        return { ...one, title, mask, area: mask.area(), path: mask.outline() };
      });
      this.proposalsState = "Nothing found on this frame.";
    } catch (error) {
      this.proposalsState = `${error.message} ${error.remedy ?? ""}`;
    }
    this.refresh();
  }

  #openProposals() {
    const layers = [...this.layers.values()];
    const open = this.found.filter((one) => !layers.some((layer) => one.mask.overlap(layer.mask, one.area, layer.area()) > TAKEN));
    if (open.length !== this.proposals.length) this.hovered = -1;
    this.proposals = open;
    if (this.found.length) this.proposalsState = "All are taken.";
  }

  hover(index) {
    if (index === this.hovered) return;
    this.hovered = index;
    document.querySelectorAll("#proposals button").forEach((button, i) => button.classList.toggle("on", i === index));
    this.stage.draw();
  }

  // ---- editing

  undo() { this.#moved(this.clip?.undo(), "There is nothing to undo."); }
  redo() { this.#moved(this.clip?.redo(), "There is nothing to redo."); }

  #moved(frame, otherwise) {
    if (frame === null || frame === undefined) this.say(otherwise);
    else if (frame !== this.frame) this.goTo(frame);
    else this.refresh();
  }

  escape() {
    if (!this.tools.cancel()) this.tools.use("select");
    this.refresh();
  }

  enter(event) {
    if (this.tools.name === "polygon" && this.tools.points.length) this.tools.closePolygon(event.altKey);
    else if (this.hovered >= 0 && this.proposals[this.hovered]) this.edits.accept(this.hovered);
    else this.panel.focusName();
  }

  panning(on) {
    this.tools.space = on;
    this.stage.canvas.style.cursor = this.tools.cursor;
  }

  hide(on) {
    this.hidden = on;
    this.stage.draw();
  }

  help() { byId("help").showModal(); }

  // ---- showing

  #notice(error, title, again) {
    this.messages.notice(error, title, again, () => this.stepVideo(1));
    this.refresh();
  }

  toolChanged() {
    const { name, size } = this.tools;
    document.querySelectorAll("#tools button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.tool === name)));
    byId("size").value = String(Math.round((100 * Math.log(size)) / Math.log(400)));
    byId("size-text").textContent = `${size} px`;
    byId("size-group").classList.toggle("off", name !== "brush" && name !== "eraser");
    this.stage.canvas.style.cursor = this.tools.cursor;
    this.#hint();
  }

  refresh() {
    this.overlay.layers();
    this.#openProposals();
    this.panel.render();
    const marks = this.clip
      ? [...this.clip.framesWithPrompts()].map(([frame, ids]) => ({ frame, colours: ids.map((id) => this.colour(id)) })) : [];
    for (const { frame } of this.clip?.openSuggestions() ?? []) marks.push({ frame, colours: [] });
    const frames = this.clip?.told.frames ?? 1;
    const range = [this.clip?.told.start ?? 0, Math.min(this.clip?.told.end ?? frames, frames)];
    this.timeline.set(frames, this.frame, marks, range);
    if (document.activeElement !== byId("frame")) byId("frame").value = String(this.frame);
    byId("frame").max = String(frames - 1);
    byId("frame-of").textContent = `of ${frames - 1}`;
    byId("timeline").setAttribute("aria-valuetext", `frame ${this.frame} of ${frames - 1}`);
    byId("undo").disabled = !this.clip?.done.length;
    byId("redo").disabled = !this.clip?.undone.length;
    this.#hint();
    this.stage.draw();
  }

  say(text, bad = false) { this.messages.say(text, bad); }

  #hint() {
    byId("hint").textContent = this.clip ? HINTS[this.tools.name].replace("{id}", this.active) : "";
    if (this.clip && this.tools.name === "select" && this.proposals.length) {
      byId("hint").textContent = "Click a proposal to take it · P and Enter do it by key · drag to pan";
    } else if (this.clip && this.tools.name === "select" && !this.clip.ids.length) {
      byId("hint").replaceChildren("Start with ", make("kbd", {}, "R"), " box, ", make("kbd", {}, "B"), " brush or ", make("kbd", {}, "G"), " polygon · ", make("kbd", {}, "?"), " lists all keys");
    }
  }

  #facts() {
    const { width, height, fps, frames, images, codec } = this.clip.told;
    return [`${width} × ${height}`, images ? `${plural(frames, "image")}` : fps && `${Number(fps.toFixed(2))} fps`, codec].filter(Boolean).join(" · ");
  }

  forgetLayers() {
    this.layers.clear();
    this.layerOf.clear();
  }

  trouble(error) {
    this.messages.trouble(error);
    this.forgetLayers();
    this.refresh();
    this.#saved();
  }

  #saved() { this.messages.saved([...this.clips.values()]); }

  #manifest(told) {
    this.sidebar.set(told.videos);
    this.#saved();
    if (told.complaint && told.complaint !== this.complaint) this.say(`The manifest on disk cannot be read now, edits are not saved: ${told.complaint}`, true);
    this.complaint = told.complaint;
  }

  // What others did to the manifest.
  async look() {
    if (document.hidden || this.looking) return;
    this.looking = true;
    const clip = this.clip, before = clip?.revision;
    try {
      const told = await api.manifest();
      if (JSON.stringify(told.videos) !== JSON.stringify(this.sidebar.videos) || told.complaint !== this.complaint) this.#manifest(told);
      const row = told.videos.find((video) => video.key === clip?.key);
      const quiet = clip && clip === this.clip && !clip.unsaved && clip.revision === before;
      if (quiet && row && row.revision !== before && !this.tools.drag && !this.panel.naming) {
        const fresh = await api.video(clip.key);
        if (!clip.unsaved && clip.revision === before && fresh.revision !== before) {
          clip.done = [];
          clip.undone = [];
          clip.take(fresh);
          this.say("The manifest was changed on disk: this is the newer state.");
        }
      }
    } catch { /* the next edit will tell */ } finally {
      this.looking = false;
    }
  }
}

const app = new App();
app.begin();
