// Curves by epoch.
sections.curves = ({ lines, bounds, spec }, { make, shown, axis, number }) => {
  // Rows of a chart; the same as curve_chart.rows makes for the figures.
  const rowsOf = (key) => {
    const rows = [];
    for (const line of lines) {
      if (!shown.has(line.arm)) continue;
      const points = line.epochs
        .map((epoch, index) => [epoch, line.values[key][index]])
        .filter(([, value]) => value !== null);
      points.forEach(([epoch, value], index) => rows.push({
        arm: line.arm,
        line: `${line.arm} ${line.seed ?? "mean"}`,
        mean: line.seed === null,
        end: line.cut && line.seed !== null && index === points.length - 1,
        epoch, value,
      }));
    }
    return rows;
  };

  const told = (quantity, key) => (row) => [
    ["epoch", String(row.epoch)],
    ["mean", number(quantity, row.value)],
    ...lines
      .filter((line) => line.arm === row.arm && line.seed !== null)
      .map((line) => [line.seed, line.values[key][line.epochs.indexOf(row.epoch)] ?? null])
      .filter(([, value]) => value !== null)
      .map(([seed, value]) => [`seed ${seed}`, number(quantity, value)]),
  ];

  // Training and validation share an axis, over the arms that are shown.
  return [...document.querySelectorAll("[data-quantity]")].map((place) => {
    const { quantity, split } = place.dataset;
    const key = `${quantity}-${split}`;
    return make(place, spec, {
      data: "curves", rows: () => rowsOf(key), axis: () => axis(bounds[quantity] ?? {}),
      focusing: true, pointed: (row) => row.mean, at: (row) => [row.epoch, row.value],
      weigh: [4, 1], told: told(quantity, key),
    });
  });
};
