// matplotlib's markers as SVG paths around 0, 0, of about the same area.
const MARKERS = {
  o: "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z",
  s: "M-.88 -.88H.88V.88H-.88Z",
  D: "M0 -1.22L1.22 0L0 1.22L-1.22 0Z",
  "^": "M0 -1.2L1.2 .95H-1.2Z",
  v: "M0 1.2L1.2 -.95H-1.2Z",
  "<": "M-1.2 0L.95 -1.2V1.2Z",
  ">": "M1.2 0L-.95 -1.2V1.2Z",
  P: "M-.45 -1.2H.45V-.45H1.2V.45H.45V1.2H-.45V.45H-1.2V-.45H-.45Z",
  X: "M0 -.55L.65 -1.2L1.2 -.65L.55 0L1.2 .65L.65 1.2L0 .55L-.65 1.2L-1.2 .65L-.55 0L-1.2 -.65L-.65 -1.2Z",
  "*": "M0 -1.4L.38 -.5L1.33 -.43L.6 .2L.82 1.13L0 .62L-.82 1.13L-.6 .2L-1.33 -.43L-.38 -.5Z",
};
const EDGE = "#333333", FADED = "#dcdcd8";

// Stamps: the pixels that a marker covers, as offsets in a picture of rows of `stride` pixels; of
// opaque ones with their colour, of others with what is left of the ground, of 255, and with the
// colour times its alpha: red and blue, and green.
function makeStamps(symbols, radius, stride) {
  const side = 2 * Math.ceil(1.5 * radius + 2) + 1, middle = side / 2;
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const stamp = (marker, fill, edge, lineWidth) => {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, side, side);
    context.setTransform(radius, 0, 0, radius, middle, middle);
    const path = new Path2D(MARKERS[marker]);
    context.fillStyle = fill;
    context.fill(path);
    if (edge) {
      context.strokeStyle = edge;
      context.lineWidth = lineWidth / radius;
      context.stroke(path);
    }
    const {data} = context.getImageData(0, 0, side, side), half = side >> 1;
    const opaque = [], clear = [];
    for (let at = 0; at < side * side; at++) {
      const alpha = data[4 * at + 3];
      const [r, g, b] = data.subarray(4 * at, 4 * at + 3);
      const offset = (Math.floor(at / side) - half) * stride + at % side - half;
      if (alpha > 240) opaque.push(offset, 0xff000000 | b << 16 | g << 8 | r);
      else if (alpha > 16) clear.push(offset, 255 - alpha, (r | b << 16) * alpha, (g << 8) * alpha);
    }
    // As 32-bit integers they overflow and come out right: only the bits are wanted.
    return {opaque: Int32Array.from(opaque), clear: Int32Array.from(clear)};
  };
  // Edges of the smallest points would be all that is seen.
  const thin = radius < 3 ? 0 : Math.min(.6, radius / 6);
  return {
    side,
    plain: symbols.map(({marker, colour}) => stamp(marker, colour, thin && EDGE, thin)),
    wrong: symbols.map(({marker, colour}) => stamp(marker, colour, "#000", Math.max(.8, radius / 2.6))),
    faded: symbols.map(({marker}) => stamp(marker, FADED, null, 0)),
  };
}

// Points of the plane on a canvas. Pixels are written by hand, since each call to draw a shape
// would cost more than its pixels: 50,000 points take some ms, without a graphics card too.
function painter(canvas, data) {
  const context = canvas.getContext("2d");
  const kinds = new Map();  // of thousands of classes many share a symbol
  const kind = data.classes.map(({marker, colour}) => {
    const key = marker + colour;
    if (!kinds.has(key)) kinds.set(key, {marker, colour, number: kinds.size});
    return kinds.get(key).number;
  });
  // What all points cover, of the square from 0 to 1: longer than wide, or wider than long.
  const reaches = [data.x, data.y].map(of => Math.max(of.reduce((a, b) => Math.max(a, b), 0) / 65535, .02));
  const all = {zoom: 1, x: reaches[0] / 2, y: 1 - reaches[1] / 2};
  const view = {...all};  // what stands in the middle
  const order = shuffled(data.n);
  const state = Uint8Array.from({length: data.n}, () => SHOWN);
  let ratio = 1, picture, buffer, stamps, stampKey = "", scale = 1;
  let reach = 0, margin = 0;  // of a stamp, and of the picture around the canvas, in its pixels
  let drawn = null;  // the view that the picture shows; null when it shows other states

  const width = () => canvas.width / ratio, height = () => canvas.height / ratio;
  const worldX = i => data.x[i] / 65535, worldY = i => 1 - data.y[i] / 65535;
  const place = i => [
    (worldX(i) - view.x) * scale + width() / 2, (worldY(i) - view.y) * scale + height() / 2,
  ];
  const radius = () => {
    const least = data.n > 20000 ? 2.2 : data.n > 3000 ? 3 : 4.5;
    return Math.min(7, Math.round(2 * least * view.zoom ** .35) / 2);
  };

  function resize() {
    ratio = Math.min(devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    stampKey = "";
    clampView();
  }

  function clampView() {
    view.zoom = Math.min(Math.max(view.zoom, 1), 500);
    view.x = Math.min(Math.max(view.x, 0), 1);
    view.y = Math.min(Math.max(view.y, 0), 1);
    scale = .92 * Math.min(width() / reaches[0], height() / reaches[1]) * view.zoom;
  }

  function prepare() {
    const key = `${radius() * ratio} ${canvas.width} ${canvas.height}`;
    if (key === stampKey) return;
    stampKey = key;
    drawn = null;
    reach = Math.ceil(1.5 * radius() * ratio + 3);
    margin = reach + Math.ceil(.2 * Math.min(canvas.width, canvas.height));
    const stride = canvas.width + 2 * margin;
    picture = new ImageData(stride, canvas.height + 2 * margin);
    buffer = new Int32Array(picture.data.buffer);
    stamps = makeStamps([...kinds.values()], radius() * ratio, stride);
  }

  // Writes the points of some states, with a stamp for each, into the picture, which is larger than
  // the canvas.
  function write(stampsOf) {
    const stride = picture.width, right = stride - reach, bottom = picture.height - reach;
    const factor = scale * ratio / 65535;
    const left = margin + canvas.width / 2 - view.x * scale * ratio + .5;
    const top = margin + canvas.height / 2 + (1 - view.y) * scale * ratio + .5;
    for (let k = 0; k < order.length; k++) {
      const i = order[k];
      if (!stampsOf[state[i]]) continue;
      const x = Math.floor(left + data.x[i] * factor), y = Math.floor(top - data.y[i] * factor);
      if (x < reach || y < reach || x >= right || y >= bottom) continue;
      const {opaque, clear} = stampsOf[state[i]][kind[data.label[i]]], base = y * stride + x;
      for (let j = 0; j < opaque.length; j += 2) buffer[base + opaque[j]] = opaque[j + 1];
      for (let j = 0; j < clear.length; j += 4) {
        const at = base + clear[j], rest = clear[j + 1], under = buffer[at];
        const rb = clear[j + 2] + Math.imul(under & 0xff00ff, rest) >>> 8 & 0xff00ff;
        const g = clear[j + 3] + Math.imul(under & 0xff00, rest) >>> 8 & 0xff00;
        buffer[at] = 0xff000000 | rb | g;
      }
    }
  }

  function draw() {
    clampView();
    prepare();
    const shift = at => drawn && Math.round((drawn[at] - view[at]) * scale * ratio);
    const isWithin = at => Math.abs(shift(at)) <= margin - reach;
    if (!drawn || drawn.zoom !== view.zoom || !isWithin("x") || !isWithin("y")) {
      buffer.fill(-1);  // white
      write({[FAINT]: stamps.faded});
      write({[SHOWN]: stamps.plain, [MISTAKE]: stamps.wrong});
      drawn = {...view};
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.putImageData(picture, shift("x") - margin, shift("y") - margin);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  // To be called when states have changed.
  function forget() {
    drawn = null;
  }

  // The images in the window that are not faded, in no order; null for more than `most`.
  function inside(most) {
    const found = [];
    for (let i = 0; i < data.n; i++) {
      if (state[i] < SHOWN) continue;
      const [x, y] = place(i);
      if (x < 0 || y < 0 || x > width() || y > height()) continue;
      if (found.push(i) > most) return null;
    }
    return found;
  }

  // The image nearest to a point of the canvas, at most so many px away, or -1; of those whose
  // state is `least` or a later one.
  function nearest(x, y, most, least) {
    const toX = (x - width() / 2) / scale + view.x, toY = (y - height() / 2) / scale + view.y;
    let best = -1, distance = (most / scale) ** 2;
    for (let i = 0; i < data.n; i++) {
      if (state[i] < least) continue;
      const away = (worldX(i) - toX) ** 2 + (worldY(i) - toY) ** 2;
      if (away <= distance) [best, distance] = [i, away];
    }
    return best;
  }

  function moveBy(dx, dy) {
    view.x -= dx / scale;
    view.y -= dy / scale;
    clampView();
  }

  function showAll() {
    Object.assign(view, all);
    clampView();
  }

  // Zooms so that what is at this point of the canvas stays there.
  function zoomBy(factor, x = width() / 2, y = height() / 2) {
    clampView();
    const before = scale;
    view.zoom *= factor;
    clampView();
    view.x += (x - width() / 2) * (1 / before - 1 / scale);
    view.y += (y - height() / 2) * (1 / before - 1 / scale);
  }

  return {
    context, view, state, draw, forget, resize, place, inside, nearest, moveBy, zoomBy, showAll, radius,
    width, height, worldX, worldY,
  };
}

const HIDDEN = 0, FAINT = 1, SHOWN = 2, MISTAKE = 3;

// Numbers below n in an order that is the same each time: no class lies on top of all others.
function shuffled(n) {
  const order = Uint32Array.from({length: n}, (_, i) => i);
  let seed = 1;
  for (let i = n - 1; i > 0; i--) {
    seed = Math.imul(seed, 1664525) + 1013904223 >>> 0;
    const j = Math.floor(seed / 2 ** 32 * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
