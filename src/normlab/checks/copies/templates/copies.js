(() => {
  "use strict";
  // Pressing the laid picture switches to the second one and back.
  for (const pair of document.querySelectorAll(".pair")) {
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
  for (const hint of document.querySelectorAll(".flip-hint")) hint.hidden = false;
})();
