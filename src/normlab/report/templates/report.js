"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const hidden = new Set();
  const views = new Map();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const config = () => ({
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      labelColor: colour("--soft"), titleColor: colour("--soft"), gridColor: colour("--line"),
      domainColor: colour("--line"), tickColor: colour("--line"), labelFontSize: 11,
      titleFontSize: 11, titleFontWeight: "normal", gridOpacity: 0.6,
    },
  });

  const shown = (id) => specs[id].data.values.filter((row) => !hidden.has(row.arm));

  // The page has its own switches and captions, so the charts carry neither legend nor title.
  const prepared = (id) => {
    const spec = structuredClone(specs[id]);
    delete spec.title;
    spec.width = "container";
    if (id !== "points") spec.height = 230;
    spec.data.values = shown(id);
    spec.autosize = { type: "fit-x", contains: "padding" };
    spec.encoding.color.legend = null;
    for (const layer of spec.layer) {
      if (layer.encoding.strokeDash) layer.encoding.strokeDash.legend = null;
    }
    spec.config = config();
    return spec;
  };

  const draw = async (id) => {
    const place = document.getElementById(`chart-${id}`);
    const result = await vegaEmbed(place, prepared(id), {
      actions: false, renderer: "svg", ast: false, tooltip: { theme: "custom" },
    });
    views.get(id)?.finalize();
    views.set(id, result.view);
    return result.view;
  };
  const drawAll = () => Promise.all(Object.keys(specs).map(draw));

  for (const button of document.querySelectorAll("[data-arm]")) {
    button.addEventListener("click", () => {
      const arm = button.dataset.arm;
      const on = hidden.has(arm);
      if (on) hidden.delete(arm); else hidden.add(arm);
      button.setAttribute("aria-pressed", String(on));
      for (const [id, view] of views) {
        view.data(specs[id].data.name, shown(id)).runAsync();
      }
    });
  }
  dark.addEventListener("change", drawAll);
  drawAll().then(() => { document.documentElement.dataset.ready = "true"; });
})();
