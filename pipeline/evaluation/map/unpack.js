// What the page holds: base64 of gzip, of JSON or of columns of little-endian numbers.
const byId = id => document.getElementById(id);
const bytesOf = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

async function inflated(id) {
  const packed = new Blob([bytesOf(byId(id).textContent)]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("gzip")));
}

async function unpack() {
  const texts = await (await inflated("texts")).json();
  const numbers = await (await inflated("numbers")).arrayBuffer();
  const places = await (await inflated("places")).arrayBuffer();
  const n = texts.paths.length;
  const column = at => new Uint16Array(numbers, 2 * n * at, n);
  const data = {
    ...texts, n, x: column(0), y: column(1), label: column(2), answer: column(3),
    probability: column(4), set: column(5), thumbnail: new Int32Array(places),
    lower: texts.paths.map(path => path.toLowerCase()),
    sheet: JSON.parse(byId("sheet").textContent), sheets: document.querySelectorAll(".sheet"),
  };
  data.wrong = i => data.answer[i] !== NO_ANSWER && data.answer[i] !== data.label[i];
  return data;
}

const NO_ANSWER = 65535;

// A thumbnail as an image and a rectangle of it, or null: while its sheet is being decoded, after
// which `ready` is called, and where the image has none.
function thumbnailSource(data, ready) {
  const pictures = [];
  const {height, width, columns, per_sheet} = data.sheet;
  return i => {
    const number = data.thumbnail[i];
    if (number < 0) return null;
    const which = Math.floor(number / per_sheet), at = number % per_sheet;
    if (!pictures[which]) {
      const picture = pictures[which] = new Image();
      picture.onload = ready;
      picture.src = "data:image/webp;base64," + data.sheets[which].textContent;
    }
    if (!pictures[which].complete) return null;
    const [left, top] = [at % columns * width, Math.floor(at / columns) * height];
    return {picture: pictures[which], left, top, width, height};
  };
}
