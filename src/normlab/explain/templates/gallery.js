(() => {
  "use strict";
  const root = document.documentElement;
  const form = document.getElementById("switches");
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim().split(/\s+/).map(Number);
  const sides = { for: [colour("for0"), colour("for1")], against: [colour("against0"), colour("against1")] };

  // A map arrives as grey bytes: b stands for (b - 128) / 127 of its largest absolute value.
  const read = async (canvas) => {
    const image = new Image();
    image.src = canvas.dataset.map;
    await image.decode();
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const bytes = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const largest = Number(canvas.dataset.largest);
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => ((bytes[4 * i] - 128) / 127) * largest);
  };

  const values = new Map();
  const draw = async (canvas) => {
    if (!values.has(canvas)) values.set(canvas, read(canvas));
    const of = await values.get(canvas);
    const full = Number(canvas.dataset[form.elements.scale.value === "own" ? "own" : "scale"]);
    const context = canvas.getContext("2d");
    const drawn = context.createImageData(canvas.width, canvas.height);
    of.forEach((value, index) => {
      const t = Math.min(1, Math.abs(value) / full);
      const [weak, strong] = sides[value > 0 ? "for" : "against"];
      for (let c = 0; c < 3; c += 1) drawn.data[4 * index + c] = weak[c] + t * (strong[c] - weak[c]);
      drawn.data[4 * index + 3] = 255 * Math.sqrt(t);
    });
    context.putImageData(drawn, 0, 0);
  };

  const canvases = [...document.querySelectorAll("canvas[data-map]")];
  for (const canvas of canvases) {
    const picture = new Image();
    picture.alt = "";
    picture.src = canvas.closest(".strip")?.dataset.src
      ?? canvas.closest(".entry").querySelector(".picture img").src;
    canvas.before(picture);
  }
  const drawAll = () => Promise.all(canvases.map(draw));

  const filter = () => {
    const { class: wanted, kind } = form.elements;
    let some = false;
    for (const section of document.querySelectorAll(".class")) {
      const groups = [...section.querySelectorAll(".group")];
      for (const group of groups) group.hidden = kind.value !== "" && group.dataset.kind !== kind.value;
      const left = groups.some((group) => !group.hidden) || (!groups.length && kind.value === "");
      section.hidden = !left || (wanted.value !== "" && section.dataset.class !== wanted.value);
      some ||= !section.hidden;
    }
    document.getElementById("nothing").hidden = some;
  };

  const look = () => {
    root.toggleAttribute("data-own", form.elements.scale.value === "own");
    root.toggleAttribute("data-plain", !form.elements.maps.checked);
    root.style.setProperty("--strength", form.elements.strength.value);
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    // The legend changes when all maps have.
    if (event.target.name === "scale") drawAll().then(look);
    else look();
    if (["class", "kind"].includes(event.target.name)) filter();
  });
  // A reload may restore the state of the switches.
  look();
  filter();
  drawAll().then(() => { root.dataset.ready = "true"; });
})();
