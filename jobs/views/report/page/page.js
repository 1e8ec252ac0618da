"use strict";
// Everything on this page is made by textContent and attributes: names of videos and objects are foreign input.
const NONCE = document.currentScript.nonce;
const HEAD = JSON.parse(document.getElementById("head").textContent);
const VIDEOS = HEAD.videos;
const AT_A_TIME = 60;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
function draw(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Numbers as people read them.
const whole = (n) => (n === null || n === undefined ? "–" : Math.round(n).toLocaleString("en"));
const short = (n) => n >= 1e9 ? (n / 1e9).toFixed(1) + " G" : n >= 1e6 ? (n / 1e6).toFixed(1) + " M" : n >= 1e5 ? (n / 1e3).toFixed(0) + " k" : whole(n);
const bytes = (n) => n >= 1e9 ? (n / 1e9).toFixed(1) + " GB" : n >= 1e6 ? (n / 1e6).toFixed(1) + " MB" : (n / 1e3).toFixed(0) + " kB";
const percent = (x) => (x > 0 && x < 0.01 ? "<1" : (100 * x).toFixed(0)) + " %";
function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  if (seconds < 5400) return (seconds / 60).toFixed(0) + " min";
  return (seconds / 3600).toFixed(1) + " h";
}
const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(s < 60 ? 1 : 0).padStart(s < 60 ? 4 : 2, "0")}`;

function head() {
  const t = HEAD.totals;
  $("output").textContent = HEAD.output;
  $("made").textContent = "made " + HEAD.made.replace("T", " ").replace("+00:00", " UTC");
  $("state").textContent = HEAD.state;
  $("state").classList.add(HEAD.state === "done" ? "good" : HEAD.state === "running" ? "warn" : "bad");
  const cards = [
    [t.videos === null ? whole(t.done) : `${whole(t.done)} / ${whole(t.videos)}`, "videos done", ""],
    [whole(t.failed), "failed", t.failed ? "bad" : ""],
    t.truncated ? [whole(t.truncated), "truncated", "warn"] : null,
    t.left ? [whole(t.left), "left", "warn"] : null,
    [short(t.frames), "frames annotated", ""],
    [short(t.masks), "masks", ""],
    [whole(t.objects), "objects", ""],
    t.hours ? [t.hours < 1 ? span(t.hours * 3600) : t.hours.toFixed(1) + " h", "of video files", ""] : null,
    [bytes(t.bytes), "of masks", ""],
    [HEAD.doubtful === null ? "–" : percent(HEAD.doubtful), "of masks doubtful", HEAD.doubtful > 0.2 ? "warn" : ""],
  ];
  $("totals").append(...cards.filter(Boolean).map(([value, name, kind]) => make("div", { class: "card " + kind }, make("b", {}, value), make("span", {}, name))));
  pace();
  failures();
  $("notes").append(...HEAD.notes.map((note) => make("p", { class: "note" }, note)));
}

function pace() {
  const { seconds, frames_per_second: rate, devices, run } = HEAD.pace;
  const box = $("pace");
  box.append(make("h2", {}, "Pace"));
  const network = Math.min(seconds.network, seconds.burn_in + seconds.final);
  const parts = [
    ["network and memory", network, "var(--accent)"],
    ["decoding, encoding, waiting", Math.max(0, seconds.burn_in + seconds.final - network), "#9b7bea"],
    ["fetching", seconds.fetch, "#e0a53a"],
    ["publishing and the rest", Math.max(0, seconds.total - seconds.fetch - seconds.burn_in - seconds.final), "var(--faint)"],
  ].filter((part) => part[1] > 0.001 * seconds.total);
  if (seconds.total > 0) {
    const bar = make("div", { class: "bar" }), key = make("div", { class: "key" });
    for (const [name, value, colour] of parts) {
      const piece = make("i", { title: `${name}: ${span(value)}` });
      piece.style.cssText = `background:${colour};flex:${value}`;
      const dot = make("i");
      dot.style.background = colour;
      bar.append(piece);
      key.append(make("span", {}, dot, `${name} ${percent(value / seconds.total)}`));
    }
    box.append(bar, key);
  }
  const facts = make("div", { class: "facts" });
  const fact = (value, text) => facts.append(make("p", {}, make("b", {}, value), " " + text));
  if (rate) fact(rate.toFixed(rate < 10 ? 2 : 1) + " frames/s", "per actor, over all its time");
  if (seconds.total) fact(span(seconds.total), "of actors' time in all");
  if (run) fact(`${run.frames_per_second ? run.frames_per_second.toFixed(2) : "–"} frames/s`, `in the last run (${whole(run.frames_now)} frames, ${whole(run.actors)} actor${run.actors === 1 ? "" : "s"}, ${span(run.seconds)}, start-up included)`);
  if (devices.length) fact(devices.join(", "), "");
  if (HEAD.retried || HEAD.lost) fact(whole(HEAD.retried + HEAD.lost), `attempts repeated (${whole(HEAD.retried)} after a failure, ${whole(HEAD.lost)} lost with their machine)`);
  box.append(facts);
  const settings = Object.entries(HEAD.settings);
  if (settings.length) {
    const list = make("dl", { class: "settings" });
    for (const [name, value] of settings) list.append(make("dt", {}, name.replaceAll("_", "-")), make("dd", {}, String(value)));
    box.append(make("details", {}, make("summary", {}, "Settings"), list));
  }
}

function failures() {
  const box = $("failures");
  if (!HEAD.failures.length) { box.remove(); document.querySelector(".columns").classList.add("one"); return; }
  box.append(make("h2", {}, "Failures"));
  for (const kind of HEAD.failures) {
    box.append(make("div", { class: "failure" },
      make("div", {}, make("span", { class: "chip bad" }, `${whole(kind.videos)} × ${kind.error_class}`)),
      make("p", { class: "remedy" }, kind.remedy),
      make("p", { class: "example" }, "e.g. " + kind.example)));
  }
}

// Videos: cards are added as one scrolls, their details as they come near.
let shown = [], drawn = 0;
const details = new Map(), waiting = new Map();
window.reportPart = (key, part) => {
  if (key !== HEAD.key) return; // drawn for another state of the report, where these ranks are other videos
  for (const [index, record] of part) {
    details.set(index, record);
    for (const tell of waiting.get(index) ?? []) tell(record);
    waiting.delete(index);
  }
};
const asked = new Set();
function detailsOf(index) {
  if (details.has(index)) return Promise.resolve(details.get(index));
  const inline = $("v" + index);
  if (inline) { details.set(index, JSON.parse(inline.textContent)); return Promise.resolve(details.get(index)); }
  const file = VIDEOS[index].part;
  if (!file) return Promise.resolve(null);
  return new Promise((resolve) => {
    waiting.set(index, [...(waiting.get(index) ?? []), resolve]);
    if (asked.has(file)) return;
    asked.add(file);
    // Loaded or not: who still waits then waits in vain. Asked for again where a card comes near later.
    const over = () => {
      for (const [key, tells] of waiting) if (VIDEOS[key].part === file) { tells.forEach((tell) => tell(null)); waiting.delete(key); }
      asked.delete(file);
      script.remove();
    };
    const script = make("script", { src: file, onload: over, onerror: over });
    script.nonce = NONCE;
    document.head.append(script);
  });
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); fill(entry.target); }
}, { rootMargin: "900px 0px" });

function card(index) {
  const video = VIDEOS[index];
  const needy = video.share >= 0.1;
  const chips = [
    video.status === "failed" ? make("span", { class: "chip bad" }, "failed") : null,
    video.status === "truncated" ? make("span", { class: "chip warn" }, "truncated") : null,
    video.status !== "failed" && video.share !== null ? make("span", { class: "chip " + (needy ? "bad" : video.share > 0.02 ? "warn" : "good") }, video.share > 0 ? percent(video.share) + " doubtful" : "nothing doubtful") : null,
  ];
  const facts = video.status === "failed" ? "" : [
    `${whole(video.frames)} frames`, `${whole(video.objects)} object${video.objects === 1 ? "" : "s"}`, `${video.width}×${video.height}`,
    video.fps ? `${+video.fps.toFixed(2)} fps` : "images", video.stride > 1 ? `stride ${video.stride}` : null,
    video.seconds ? `${(video.frames / video.seconds).toFixed(1)} frames/s` : null,
  ].filter(Boolean).join("  ·  ");
  const item = make("li", { class: "video" + (video.status === "failed" ? " short" : ""), tabIndex: -1 },
    make("div", { class: "heading" }, make("h3", {}, video.id), ...chips.filter(Boolean), make("span", { class: "facts-line" }, facts)),
    video.message ? make("p", { class: "message" + (video.status === "failed" ? " bad" : "") }, video.message) : null);
  item.dataset.index = index;
  if (video.status !== "failed") { item.append(make("p", { class: "loading" }, "…")); near.observe(item); }
  return item;
}

async function fill(item) {
  const index = Number(item.dataset.index), video = VIDEOS[index];
  const found = await detailsOf(index);
  const place = item.querySelector(".loading");
  if (!found) { place.textContent = video.part ? `Its pictures and courses are not beside this page: ${decodeURIComponent(video.part)} is not there yet, was left out when the page was copied, or gave way to a later report. Load the page again; where that does not help, run jobs.report again.` : "No details: see the notes above."; return; }
  const strip = make("div", { class: "strip" });
  for (const picture of found.strip) {
    const time = video.fps ? clock(picture.f / video.fps) : null;
    const image = make("img", { alt: `frame ${picture.f}`, loading: "lazy", decoding: "async", src: picture.src, width: found.size[1], height: found.size[0] });
    const note = picture.k === "given" ? "given" : picture.k === "doubtful" ? `doubt ${picture.d.toFixed(2)}` : null;
    const button = make("button", { type: "button", class: picture.k, title: "Enlarge (Enter)" }, image,
      make("span", {}, `${picture.f}${time ? " · " + time : ""}`, note ? make("b", {}, note) : null));
    button.addEventListener("click", () => enlarge(picture, video, time));
    strip.append(button);
  }
  const parts = [strip];
  if (found.masks_only) parts.push(make("p", { class: "message" }, "Masks alone on grey: " + found.masks_only + "."));
  const marks = found.strip.map((picture) => (picture.f - video.first) / video.stride);
  found.course.objects.forEach((object) => parts.push(course(object, found.course.bins, video, marks, strip)));
  if (found.course.objects.length) {
    const last = video.first + (video.frames - 1) * video.stride;
    parts.push(make("div", { class: "course" }, make("div", { class: "axis" }, make("span", {}, whole(video.first)), make("span", {}, "frame"), make("span", {}, whole(last)))));
  }
  if (found.course.left_out) parts.push(make("p", { class: "message" }, `${found.course.left_out} less doubtful objects are not shown.`));
  place.replaceWith(...parts);
}

function course(object, bins, video, marks, strip) {
  const width = 1000, height = 100, step = width / Math.max(1, bins);
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `object ${object.id}: area, score and doubt over time` });
  const at = (i) => ((i + 0.5) * step).toFixed(1);
  const top = 6, low = 88, y = (value) => (low - (low - top) * value / 100).toFixed(1);
  const area = draw("path", { d: filled(object.a, at, y, low), fill: object.colour, "fill-opacity": 0.34 });
  picture.append(area);
  for (const mark of marks) picture.append(draw("line", { class: "shown-mark", x1: mark / video.frames * width, x2: mark / video.frames * width, y1: 0, y2: low }));
  picture.append(draw("path", { class: "score-line", d: lined(object.s, at, y) }), draw("path", { class: "doubt-line", d: lined(object.d, at, y) }));
  object.v.forEach((share, i) => picture.append(draw("rect", { x: (i * step).toFixed(1), y: 92, width: (step + 0.4).toFixed(1), height: 8, class: share > 0 ? "" : "gap", ...(share > 0 ? { fill: object.colour, "fill-opacity": 0.25 + 0.75 * share / 100 } : {}) })));
  for (const frame of object.given) {
    const x = ((frame - video.first) / video.stride + 0.5) / video.frames * width;
    picture.append(draw("line", { class: "given-mark", x1: x, x2: x, y1: 0, y2: low }));
  }
  const cursor = draw("line", { class: "cursor", x1: 0, x2: 0, y1: 0, y2: height, visibility: "hidden" });
  picture.append(cursor);
  const place = (event) => Math.min(0.999999, Math.max(0, (event.clientX - picture.getBoundingClientRect().left) / picture.getBoundingClientRect().width));
  picture.addEventListener("pointermove", (event) => {
    const x = place(event), i = Math.floor(x * bins), frame = video.first + Math.floor(x * video.frames) * video.stride;
    cursor.setAttribute("x1", x * width); cursor.setAttribute("x2", x * width); cursor.setAttribute("visibility", "visible");
    const lines = [`frame ${frame}` + (video.fps ? `   ${clock(frame / video.fps)}` : "")];
    if (object.v[i] === 0) lines.push("no mask");
    else lines.push(`area ${whole(object.a[i] / 100 * object.largest)} px`, object.s[i] >= 0 ? `score ${(object.s[i] / 100).toFixed(2)}` : null);
    if (object.d[i] >= 0) lines.push(`doubt ${(object.d[i] / 100).toFixed(2)}`);
    tip(lines.filter(Boolean).join("\n"), event);
  });
  picture.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); $("tip").hidden = true; });
  picture.addEventListener("click", (event) => {
    const wanted = place(event) * video.frames;
    const nearest = marks.reduce((best, mark, n) => (Math.abs(mark - wanted) < Math.abs(marks[best] - wanted) ? n : best), 0);
    strip.children[nearest]?.scrollIntoView({ behavior: "smooth", inline: "center", block: "nearest" });
  });
  const dot = make("i");
  dot.style.background = object.colour;
  const name = object.label ? `${object.id} ${object.label}` : `object ${object.id}`;
  const numbers = object.visible ? `${percent(object.visible / Math.max(1, video.frames))} visible` + (object.mean_doubt === null ? "" : `, doubt ${object.mean_doubt.toFixed(2)}`) : "never visible";
  return make("div", { class: "course" }, make("div", { class: "name", title: name }, dot, make("span", {}, name)), picture,
    make("div", { class: "numbers", title: "frames with a mask · mean doubt" }, numbers));
}
function lined(values, at, y) {
  let path = "", open = false;
  values.forEach((value, i) => { if (value < 0) open = false; else { path += `${open ? "L" : "M"}${at(i)} ${y(value)}`; if (!open) path += `L${at(i)} ${y(value)}`; open = true; } });
  return path;
}
function filled(values, at, y, low) {
  let path = "", start = null;
  const close = (i) => { if (start !== null) { path += `L${at(i)} ${low}L${at(start)} ${low}Z`; start = null; } };
  values.forEach((value, i) => {
    if (value < 0) { close(i - 1); return; }
    path += `${start === null ? "M" : "L"}${at(i)} ${y(value)}`;
    if (start === null) start = i;
  });
  close(values.length - 1);
  return path;
}
function tip(text, event) {
  const box = $("tip");
  box.textContent = text;
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = Math.min(innerWidth - width - 8, event.clientX + 14) + "px";
  box.style.top = Math.max(8, event.clientY - height - 12) + "px";
}
function enlarge(picture, video, time) {
  $("large-picture").src = picture.src;
  const doubts = (picture.o ?? []).filter((one) => one[1] > 0).map(([id, doubt, mask]) => `object ${id}: doubt ${doubt.toFixed(2)}${mask ? "" : ", no mask"}`);
  $("large-caption").textContent = [`${video.id}, frame ${picture.f}${time ? " at " + time : ""}`, ...doubts].join("  ·  ");
  $("large").showModal();
}

// Order, search, paging.
const ORDERS = {
  need: (a, b) => a.index - b.index,
  id: (a, b) => a.id.localeCompare(b.id, "en", { numeric: true }),
  frames: (a, b) => b.frames - a.frames,
  seconds: (a, b) => (b.seconds ?? 0) - (a.seconds ?? 0),
  objects: (a, b) => b.objects - a.objects,
};
const FILTERS = { "": () => true, look: (v) => v.share >= 0.02, done: (v) => v.status === "done", truncated: (v) => v.status === "truncated", failed: (v) => v.status === "failed" };
function list() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = FILTERS[$("filter").value];
  shown = VIDEOS.map((video, index) => Object.assign(video, { index }))
    .filter((video) => fits(video) && words.every((word) => video.text.includes(word)))
    .sort(ORDERS[$("order").value]);
  near.disconnect();
  $("videos").replaceChildren();
  drawn = 0;
  $("none").hidden = shown.length > 0;
  $("count").textContent = shown.length === VIDEOS.length ? whole(VIDEOS.length) : `${whole(shown.length)} of ${whole(VIDEOS.length)}`;
  more();
}
function more() {
  $("videos").append(...shown.slice(drawn, drawn + AT_A_TIME).map((video) => card(video.index)));
  drawn = Math.min(shown.length, drawn + AT_A_TIME);
}
new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && drawn < shown.length) more(); }, { rootMargin: "1500px 0px" }).observe($("more"));

// Keys.
const KEYS = [["j  k", "next and previous video"], ["← →", "pictures of the video"], ["Enter", "enlarge the picture"], ["/", "search"], ["t", "light or dark"], ["Esc", "back"], ["?", "this list"]];
$("keys").append(...KEYS.flatMap(([keys, text]) => [make("dt", {}, ...keys.split("  ").flatMap((key) => [make("kbd", {}, key), " "])), make("dd", {}, text)]));
function step(by) {
  const cards = [...$("videos").children];
  const here = cards.indexOf(document.activeElement.closest?.(".video"));
  const next = cards[Math.max(0, Math.min(cards.length - 1, here < 0 ? (by > 0 ? 0 : cards.length - 1) : here + by))];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "start", behavior: "auto" });
}
function alongStrip(by) {
  const item = document.activeElement.closest?.(".video");
  const buttons = [...(item?.querySelectorAll(".strip button") ?? [])];
  if (!buttons.length) return false;
  const here = buttons.indexOf(document.activeElement);
  const next = buttons[Math.max(0, Math.min(buttons.length - 1, here < 0 ? (by > 0 ? 0 : buttons.length - 1) : here + by))];
  next.focus({ preventScroll: true });
  next.scrollIntoView({ inline: "center", block: "nearest" });
  return true;
}
function theme() {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("stcn-report-theme", document.documentElement.dataset.theme); } catch { /* file:// may have none */ }
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (typing) { if (event.key === "Escape") { $("search").value = ""; list(); event.target.blur(); } return; }
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "ArrowRight" && alongStrip(1)) { /* moved */ }
  else if (event.key === "ArrowLeft" && alongStrip(-1)) { /* moved */ }
  else if (event.key === "/") $("search").focus();
  else if (event.key === "t") theme();
  else if (event.key === "?") $("help").showModal();
  else return;
  event.preventDefault();
});
$("theme").addEventListener("click", theme);
$("help-button").addEventListener("click", () => $("help").showModal());
$("large").addEventListener("click", () => $("large").close());
let typed = 0;
$("search").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(list, 120); });
$("filter").addEventListener("change", list);
$("order").addEventListener("change", list);
$("legend").textContent = HEAD.legend;
try { const kept = localStorage.getItem("stcn-report-theme"); if (kept) document.documentElement.dataset.theme = kept; } catch { /* file:// may have none */ }
head();
list();
