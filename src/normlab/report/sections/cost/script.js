// Test accuracy against the time of a training step.
sections.cost = ({ rows, spec }, { make, shown }) => {
  const spread = (low, high, digits) =>
    high > low ? ` ± ${((high - low) / 2).toFixed(digits)}` : "";
  return [make(document.getElementById("costs"), spec, {
    data: "costs", rows: () => rows.filter((row) => shown.has(row.arm)), pointed: () => true,
    at: (row) => [row.x, row.y], weigh: [1, 1],
    told: (row) => [
      ["test accuracy", `${row.y.toFixed(1)}${spread(row.y_low, row.y_high, 1)} %`],
      ["per step", `${row.x.toFixed(2)}${spread(row.x_low, row.x_high, 2)} ms`],
      ["runs", String(row.runs)],
    ],
  })];
};
