// Validation accuracy against a tuned setting.
sections.tuned = (charts, { make, shown, number }) =>
  [...document.querySelectorAll("[data-tuned]")].map((place) => {
    const found = charts.find((one) => one.name === place.dataset.tuned);
    return make(place, found.spec, {
      data: "values", lines: found.lines, rows: () => found.rows.filter((row) => shown.has(row.arm)),
      axis: () => [found.low, found.high], pointed: (row) => !row.mean,
      at: (row) => [row.x, row.value], weigh: [1, 1],
      told: (row) => [
        [found.field, String(row.x)],
        [`trial, seed ${row.seed}`, number("accuracy", row.value)],
      ],
    });
  });
