// Test accuracy against the time of a training step.
sections.push(({ content, make, shown }) => {
  const place = document.getElementById("costs");
  if (!place) return [];
  const { rows, spec } = content.cost;
  const spread = (low, high, digits) =>
    high > low ? ` ± ${((high - low) / 2).toFixed(digits)}` : "";
  return [make(place, spec, {
    data: "costs", rows: () => rows.filter((row) => shown.has(row.arm)), pointed: () => true,
    at: (row) => [row.x, row.y], weigh: [1, 1],
    told: (row) => [
      ["test accuracy", `${row.y.toFixed(1)}${spread(row.y_low, row.y_high, 1)} %`],
      ["a step", `${row.x.toFixed(2)}${spread(row.x_low, row.x_high, 2)} ms`],
      ["runs", String(row.runs)],
    ],
  })];
});
