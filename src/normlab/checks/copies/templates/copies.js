(() => {
  "use strict";
  const pairs = [...document.querySelectorAll(".pair")];
  // Pressing the laid picture switches to the second one and back.
  for (const pair of pairs) {
    const laid = pair.querySelector(".laid img");
    const second = pair.querySelector(".second img");
    const words = pair.querySelector(".laid figcaption");
    const button = document.createElement("button");
    const own = { src: laid.src, alt: laid.alt, words: words.textContent };
    button.type = "button";
    button.className = "flip";
    button.title = "Switch between this and the second picture";
    button.setAttribute("aria-pressed", "false");
    laid.replaceWith(button);
    button.append(laid);
    button.addEventListener("click", () => {
      const flipped = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(flipped));
      laid.src = flipped ? second.src : own.src;
      laid.alt = flipped ? second.alt : own.alt;
      words.textContent = flipped ? "second" : own.words;
    });
  }
  for (const hint of document.querySelectorAll(".with-script")) hint.hidden = false;

  // Decisions about pairs, written as rows of the file that --decisions reads.
  const bar = document.querySelector(".deciding");
  if (!bar) return;
  const said = bar.querySelector("span");
  const made = new Map();
  const pressed = (pair) => pair.querySelector(".decide [aria-pressed=true]");
  const tell = () => {
    made.clear();
    for (const pair of pairs) {
      const button = pressed(pair);
      if (button) made.set(pair.dataset.row, button.value);
    }
    bar.hidden = made.size === 0;
    said.textContent = made.size === 1 ? "1 pair decided." : `${made.size} pairs decided.`;
  };
  for (const pair of pairs) {
    const choice = document.createElement("p");
    choice.className = "decide";
    for (const [value, words] of [["copy", "Copies"], ["different", "Different"]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.value = value;
      button.textContent = words;
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") === "false";
        for (const other of choice.children) other.setAttribute("aria-pressed", "false");
        button.setAttribute("aria-pressed", String(on));
        tell();
      });
      choice.append(button);
    }
    pair.append(choice);
  }
  bar.querySelector("button").addEventListener("click", () => {
    const kept = bar.dataset.kept ? [bar.dataset.kept] : [];
    const rows = [...made].map(([row, value]) => `${row},${value}`);
    const text = [bar.dataset.header, ...kept, ...rows].join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "decisions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
})();
