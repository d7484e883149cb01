// The confusion matrix of the arm that is chosen.
sections.classes = ({ classes, arms, tones, spec }, { make, fill }) => {
  const place = document.getElementById("confusion");
  const radios = [...document.querySelectorAll("input[name=confusion]")];
  let arm = radios.find((radio) => radio.checked).value;
  let counts = new Map();
  let totals = [];

  const rows = () => {
    counts = new Map();
    totals = classes.map(() => 0);
    const flat = arms[arm].cells;
    const found = [];
    for (let at = 0; at < flat.length; at += 3) {
      const [t, p, count] = flat.slice(at, at + 3);
      counts.set(t * classes.length + p, count);
      totals[t] += count;
      found.push({ true: classes[t], predicted: classes[p], t, p, count });
    }
    for (const row of found) row.share = row.count / totals[row.t];
    return found;
  };

  // The cell under the pointer, empty ones too.
  const seek = (chart, event) => {
    const box = chart.place.querySelector("svg").getBoundingClientRect();
    const [left, top] = chart.view.origin();
    const index = (name, offset) => {
      const scale = chart.view.scale(name);
      const [first, last] = scale.range();
      return Math.floor((classes.length * (offset - first)) / (last - first));
    };
    const p = index("x", event.clientX - box.left - left);
    const t = index("y", event.clientY - box.top - top);
    const inside = [p, t].every((one) => one >= 0 && one < classes.length);
    return inside ? { t, p, count: counts.get(t * classes.length + p) ?? 0 } : null;
  };

  const chart = {
    data: "cells", rows, tones, seek, pointed: () => false,
    head: (row) => (row.t === row.p
      ? `${classes[row.t]}, classified correctly` : `${classes[row.t]} mistaken for ${classes[row.p]}`),
    told: (row) => [
      ["true class", classes[row.t]],
      ["predicted", classes[row.p]],
      ["count", `${row.count} of ${totals[row.t]}`],
      ["share", totals[row.t] ? `${((100 * row.count) / totals[row.t]).toFixed(1)} %` : "–"],
    ],
  };

  const say = () => {
    arm = radios.find((radio) => radio.checked).value;
    document.getElementById("confusion-arm").textContent = arm;
    const chosen = radios.find((radio) => radio.checked);
    document.getElementById("confusion-file").setAttribute("href", chosen.dataset.file);
    place.setAttribute("aria-label", arms[arm].label);
    for (const said of document.querySelectorAll("[data-confused]")) {
      said.hidden = said.dataset.confused !== arm;
    }
  };
  say();
  const made = make(place, spec, chart);
  for (const radio of radios) {
    radio.addEventListener("change", () => {
      say();
      made.then(() => fill(chart));
    });
  }
  return [made];
};
