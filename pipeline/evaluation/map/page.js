// Controls, and what they show.
let data;
try {
  data = await unpack();
} catch (error) {
  byId("count").textContent = `This page needs a browser of 2023 or later (${error}).`;
  return;
}
const canvas = byId("points"), card = byId("card");
const map = painter(canvas, data), {view, state} = map;
const thumbnail = thumbnailSource(data, () => refresh());
const judged = data.answer.some(answer => answer !== NO_ANSWER);
const counts = data.classes.map(() => ({images: 0, wrong: 0}));
for (let i = 0; i < data.n; i++) {
  counts[data.label[i]].images++;
  counts[data.label[i]].wrong += data.wrong(i);
}
const on = data.classes.map(() => true);
const number = value => value.toLocaleString("en");
// The class that is drawn alone in colours, and the image that the card describes; or -1.
let lit = -1, chosen = -1, byKeys = false, waiting = 0;

// ---- what is drawn ----

function isOn(i) {
  const wanted = byId("judged").value, set = byId("set").value;
  return on[data.label[i]]
    && (wanted === "all" || data.answer[i] !== NO_ANSWER && data.wrong(i) === (wanted === "wrong"))
    && (set === "" || data.set[i] === Number(set));
}

function select() {
  const query = byId("search").value.trim().toLowerCase();
  const ofClass = data.classes.map(({name}) => name.toLowerCase().includes(query));
  let shown = 0, wrong = 0;
  const found = [], marks = byId("marks").checked;
  for (let i = 0; i < data.n; i++) {
    if (!isOn(i)) {
      state[i] = HIDDEN;
      continue;
    }
    shown++;
    wrong += data.wrong(i);
    const matches = !query || ofClass[data.label[i]] || data.lower[i].includes(query);
    if (query && matches) found.push(i);
    state[i] = !matches || lit >= 0 && data.label[i] !== lit ? FAINT
      : marks && data.wrong(i) ? MISTAKE : SHOWN;
  }
  byId("count").textContent = `${number(shown)} of ${number(data.n)} images shown`
    + (judged ? `, ${number(wrong)} mistake${wrong === 1 ? "" : "s"}` : "")
    + (query ? `; ${number(found.length)} found` : "");
  map.forget();
  refresh();
  return found;
}

function refresh() {
  if (!waiting) waiting = requestAnimationFrame(paint);
}

function paint() {
  waiting = 0;
  map.draw();
  const drawn = view.zoom > 1.5 && drawThumbnails();
  if (byId("names").checked) drawNames(drawn ? SIDE / 2 + 2 : map.radius());
  if (byKeys) drawMiddle();
  if (chosen >= 0 && state[chosen] !== HIDDEN) drawChosen();
  showCard();
}

// Few images are drawn as such, in place of their points. Returns whether they were few enough.
const SIDE = 44;
function drawThumbnails() {
  const near = map.inside(Math.ceil(map.width() * map.height() / SIDE ** 2 / 3));
  for (const i of near || []) {
    const source = thumbnail(i);
    if (!source) continue;
    const [x, y] = map.place(i), factor = SIDE / Math.max(source.width, source.height);
    const [wide, high] = [source.width * factor, source.height * factor];
    const edge = data.wrong(i) ? 3 : 1.5;
    map.context.fillStyle = data.wrong(i) ? "#000" : data.classes[data.label[i]].colour;
    map.context.fillRect(x - wide / 2 - edge, y - high / 2 - edge, wide + 2 * edge, high + 2 * edge);
    map.context.drawImage(
      source.picture, source.left, source.top, source.width, source.height,
      x - wide / 2, y - high / 2, wide, high,
    );
  }
  return near !== null;
}

function drawChosen() {
  const [x, y] = map.place(chosen);
  map.context.lineWidth = 2.5;
  map.context.strokeStyle = "#000";
  map.context.beginPath();
  map.context.arc(x, y, map.radius() + 5, 0, 7);
  map.context.stroke();
}

function drawMiddle() {
  const [x, y] = [map.width() / 2, map.height() / 2];
  map.context.fillStyle = "#000";
  map.context.fillRect(x - 7, y - .5, 14, 1);
  map.context.fillRect(x - .5, y - 7, 1, 14);
}

// Names of classes so many px above the point nearest to the median of all, larger classes first, while there is
// room.
const medians = data.classes.map((_, label) => {
  const rows = [];
  for (let i = 0; i < data.n; i++) if (data.label[i] === label) rows.push(i);
  const median = of => rows.map(of).sort((a, b) => a - b)[rows.length >> 1];
  const [x, y] = [median(map.worldX), median(map.worldY)];
  let best = 0, least = Infinity;
  for (const i of rows) {
    const away = Math.abs(map.worldX(i) - x) + Math.abs(map.worldY(i) - y);
    if (away < least) [best, least] = [i, away];
  }
  return best;
});
const bySize = counts.map((_, label) => label).sort((a, b) => counts[b].images - counts[a].images);
const written = new Map();

// What all names begin with, up to the end of a word: a name that is too long does without it.
const shared = (() => {
  const names = data.classes.map(({name}) => name), [first] = names;
  let length = 0;
  while (length < first.length && names.every(name => name[length] === first[length])) length++;
  return names.length > 1 ? first.slice(0, length).replace(/[^\s_\-/.,]*$/, "").length : 0;
})();

function short(name) {
  const room = 24;
  if ([...name].length <= room) return name;
  const letters = [...(shared ? "…" + name.slice(shared) : name)];
  return letters.length <= room ? letters.join("")
    : letters.slice(0, room / 2).join("") + "…" + letters.slice(1 - room / 2).join("");
}

function nameImage(label) {
  if (!written.has(label)) {
    const made = new OffscreenCanvas(1, 1), context = made.getContext("2d"), size = 2;
    const {name} = data.classes[label], font = "600 12px system-ui, sans-serif";
    const text = short(name);
    context.font = font;
    [made.width, made.height] = [size * Math.ceil(context.measureText(text).width + 8), size * 18];
    context.scale(size, size);
    Object.assign(context, {font, textBaseline: "middle", lineJoin: "round", lineWidth: 4});
    context.strokeStyle = "rgb(255 255 255 / .85)";
    context.strokeText(text, 4, 9);
    context.fillStyle = "#22252a";
    context.fillText(text, 4, 9);
    written.set(label, {made, wide: made.width / size, high: made.height / size});
  }
  return written.get(label);
}

function drawNames(above) {
  const taken = [];
  for (const label of lit >= 0 ? [lit, ...bySize] : bySize) {
    if (!on[label] || !counts[label].images) continue;
    const [x, point] = map.place(medians[label]), y = point - above - 9;
    if (x < 0 || y < 0 || x > map.width() || y > map.height()) continue;
    const {made, wide, high} = nameImage(label);
    const left = Math.max(Math.min(x - wide / 2, map.width() - wide), 0);
    const box = [left, y - high / 2, left + wide, y + high / 2];
    if (taken.some(b => b[0] < box[2] && box[0] < b[2] && b[1] < box[3] && box[1] < b[3])) continue;
    taken.push(box);
    map.context.drawImage(made, box[0], box[1], wide, high);
  }
}

// ---- the card ----

function choose(i) {
  if (i === chosen) return;
  chosen = i;
  refresh();
}

function showCard() {
  card.hidden = chosen < 0 || state[chosen] === HIDDEN;
  for (const [label, row] of rows.entries()) {
    row.classList.toggle("lit", !card.hidden && data.label[chosen] === label);
  }
  if (card.hidden) return;
  const source = thumbnail(chosen), small = byId("thumbnail");
  small.hidden = !source;
  if (source) {
    const factor = Math.max(1, Math.floor(128 / Math.max(source.width, source.height)));
    [small.width, small.height] = [source.width * factor, source.height * factor];
    const context = small.getContext("2d");
    context.imageSmoothingEnabled = factor < 4;
    context.drawImage(
      source.picture, source.left, source.top, source.width, source.height,
      0, 0, small.width, small.height,
    );
  }
  const answer = data.answer[chosen], wrong = data.wrong(chosen);
  write("file", data.paths[chosen]);
  write("class", data.classes[data.label[chosen]].name
    + (data.sets.length > 1 ? ` (${data.sets[data.set[chosen]]})` : ""));
  write("answer", answer === NO_ANSWER ? "" : `${wrong ? "✗" : "✓"} answered `
    + `${data.classes[answer].name}, probability ${(data.probability[chosen] / 10000).toFixed(2)}`);
  byId("answer").className = wrong ? "bad" : "good";
  const [x, y] = map.place(chosen), gap = map.radius() + 12;
  const [wide, high] = [card.offsetWidth, card.offsetHeight];
  const left = x + gap + wide < map.width() ? x + gap : x - gap - wide;
  const inside = (at, most) => Math.min(Math.max(at, 6), Math.max(most - 6, 6));
  card.style.left = `${inside(left, map.width() - wide)}px`;
  card.style.top = `${inside(y - high / 2, map.height() - high)}px`;
}

function write(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}
