// Classes, search, pointer, wheel and keys.

let resting = 0;

function light(label, afterMs = 0) {
  clearTimeout(resting);
  resting = setTimeout(() => {
    if (lit === label) return;
    lit = label;
    select();
  }, afterMs);
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function symbolOf({marker, colour}) {
  const made = tag => document.createElementNS("http://www.w3.org/2000/svg", tag);
  const svg = made("svg"), path = made("path");
  svg.setAttribute("viewBox", "-1.7 -1.7 3.4 3.4");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, value] of Object.entries({
    d: MARKERS[marker], fill: colour, stroke: EDGE, "stroke-width": .15,
  })) path.setAttribute(name, value);
  svg.append(path);
  return svg;
}

const boxes = data.classes.map(() => element("input", {type: "checkbox", checked: true}));
const rows = data.classes.map((one, label) => {
  const {images, wrong} = counts[label];
  const row = element("li", {},
    element("label", {}, boxes[label], symbolOf(one), element("span", {className: "name"}, one.name)),
    element("span", {className: "number"}, number(images) + (wrong ? ` · ${number(wrong)} ✗` : "")),
    element("button", {type: "button", title: `Show ${one.name} alone`, onclick: () => {
      switchClasses(other => other === label);
    }}, "only"),
  );
  row.addEventListener("pointerenter", event => event.pointerType === "mouse" && light(label));
  row.addEventListener("pointerleave", () => light(-1));
  row.addEventListener("focusin", event => event.target.matches(":focus-visible") && light(label));
  row.addEventListener("focusout", () => light(-1));
  boxes[label].addEventListener("change", () => switchClasses(other => boxes[other].checked));
  return row;
});
byId("legend").append(...rows.filter((_, label) => counts[label].images));

function switchClasses(wanted) {
  for (const label of on.keys()) {
    on[label] = boxes[label].checked = wanted(label);
    rows[label].classList.toggle("off", !on[label]);
  }
  search();
}

// Of a narrowed list, the buttons switch the classes in it.
const listed = label => !rows[label].hidden;
byId("every").addEventListener("click", () => switchClasses(label => on[label] || listed(label)));
byId("none").addEventListener("click", () => switchClasses(label => on[label] && !listed(label)));
byId("narrow").addEventListener("input", () => {
  const query = byId("narrow").value.trim().toLowerCase();
  data.classes.forEach(({name}, label) => { rows[label].hidden = !name.toLowerCase().includes(query); });
});

// ---- search ----

function search() {
  const found = select(), most = 50;
  const items = found.slice(0, most).map(i => element("li", {}, element("button", {
    type: "button", onclick: () => goTo(i),
  }, data.paths[i])));
  if (found.length > most) {
    items.push(element("li", {className: "quiet"}, `and ${number(found.length - most)} more`));
  }
  byId("found").replaceChildren(...items);
  return found;
}

function goTo(i) {
  [view.x, view.y, view.zoom] = [map.worldX(i), map.worldY(i), Math.max(view.zoom, 4)];
  chosen = i;
  refresh();
}

byId("search").addEventListener("input", search);
byId("search").addEventListener("keydown", event => {
  const [first] = event.key === "Enter" ? search() : [];
  if (first !== undefined) goTo(first);
});
byId("judged").addEventListener("change", search);
byId("set").addEventListener("change", search);
byId("marks").addEventListener("change", select);
byId("names").addEventListener("change", refresh);
byId("answers").hidden = byId("marked").hidden = !judged;
byId("ofwhich").hidden = !judged;
byId("sets").hidden = data.sets.length < 2;
byId("set").append(element("option", {value: ""}, "all"), ...data.sets.map((name, at) =>
  element("option", {value: at}, name)));

// ---- pointer, wheel and keys ----

const held = new Map();  // pointers that are down, by their number
let moved = 0;
const at = event => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

// What a search leaves faint cannot be picked; what stands back behind a class can.
const leastToPick = () => byId("search").value.trim() ? SHOWN : FAINT;

function pick(event) {
  const most = event.pointerType === "mouse" ? map.radius() + 6 : 24;
  const found = map.nearest(...at(event), most, leastToPick());
  choose(found);
  if (event.pointerType === "mouse" && byId("search").value === "") {
    light(found < 0 ? -1 : data.label[found], 250);
  }
}

canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  held.set(event.pointerId, at(event));
  moved = held.size > 1 ? Infinity : 0;
  canvas.classList.add("held");
  byKeys = false;
});
canvas.addEventListener("pointermove", event => {
  if (!held.has(event.pointerId)) {
    if (event.pointerType === "mouse") pick(event);
    return;
  }
  const before = [...held.values()], [x, y] = at(event), [fromX, fromY] = held.get(event.pointerId);
  moved += Math.abs(x - fromX) + Math.abs(y - fromY);
  held.set(event.pointerId, [x, y]);
  if (moved < 5) return;
  if (held.size === 2) pinch(before, [...held.values()]);
  if (held.size === 1) map.moveBy(x - fromX, y - fromY);
  refresh();
});

// Two fingers: what was between them stays between them.
function pinch([a, b], [c, d]) {
  const apart = (p, q) => Math.max(Math.hypot(p[0] - q[0], p[1] - q[1]), 10);
  const middle = (p, q) => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2];
  const [fromX, fromY] = middle(a, b), [toX, toY] = middle(c, d);
  map.moveBy(toX - fromX, toY - fromY);
  map.zoomBy(apart(c, d) / apart(a, b), toX, toY);
}

function release(event) {
  const tapped = held.delete(event.pointerId) && moved < 5 && event.type === "pointerup";
  if (tapped) pick(event);
  if (!held.size) canvas.classList.remove("held");
}
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("pointerleave", event => {
  if (event.pointerType !== "mouse" || held.size) return;
  choose(-1);
  light(-1);
});
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
  map.zoomBy(Math.exp(-Math.min(Math.max(pixels, -300), 300) / 400), ...at(event));
  refresh();
}, {passive: false});

const KEYS = {
  ArrowLeft: () => map.moveBy(60, 0), ArrowRight: () => map.moveBy(-60, 0),
  ArrowUp: () => map.moveBy(0, 60), ArrowDown: () => map.moveBy(0, -60),
  "+": () => map.zoomBy(1.5), "=": () => map.zoomBy(1.5), "-": () => map.zoomBy(1 / 1.5),
  0: () => map.showAll(),
};
canvas.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    byKeys = false;
    choose(-1);
    refresh();
  }
  if (!KEYS[event.key]) return;
  event.preventDefault();
  byKeys = true;
  KEYS[event.key]();
  choose(map.nearest(map.width() / 2, map.height() / 2, Infinity, leastToPick()));
  refresh();
});
canvas.addEventListener("blur", () => {
  byKeys = false;
  refresh();
});
for (const button of document.querySelectorAll("#zoom button")) {
  button.addEventListener("click", () => {
    KEYS[button.dataset.key]();
    refresh();
  });
}

new ResizeObserver(() => {
  map.resize();
  paint();
}).observe(canvas);
map.resize();
search();
