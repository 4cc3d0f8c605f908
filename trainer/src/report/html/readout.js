"use strict";
// Read-outs under the pointer or, with the arrow keys, under a cursor. Without this script nothing but them is missing.
for (const area of document.querySelectorAll("[data-readout]")) {
  let data, box, hair;
  const show = (at) => {
    if (!data) {
      data = JSON.parse(area.dataset.readout);
      hair = area.appendChild(document.createElement("i"));
      hair.className = "hair";
      box = area.appendChild(document.createElement("div"));
      box.className = "readout";
      box.setAttribute("aria-live", "polite");
    }
    const last = data.x.length - 1;
    if (last < 0) return;
    at = Math.max(0, Math.min(last, at));
    area.dataset.at = at;
    const across = data.x[at] * 100;
    hair.style.left = across + "%";
    box.style.left = across > 50 ? "auto" : `calc(${across}% + 12px)`;
    box.style.right = across > 50 ? `calc(${100 - across}% + 12px)` : "auto";
    box.replaceChildren();
    const title = box.appendChild(document.createElement("b"));
    title.textContent = data.t[at];
    for (const [name, kind, values] of data.s) {
      const row = box.appendChild(document.createElement("span"));
      const key = row.appendChild(document.createElement("i"));
      key.className = "key " + kind;
      row.append(name + " ");
      const value = row.appendChild(document.createElement("b"));
      value.textContent = values[at];
    }
    area.classList.add("reading");
  };
  const nearest = (x) => {
    let best = 0;
    data.x.forEach((place, at) => { if (Math.abs(place - x) < Math.abs(data.x[best] - x)) best = at; });
    return best;
  };
  const hide = () => area.classList.remove("reading");
  const move = (event) => {
    if (!data) show(0);
    const bounds = area.getBoundingClientRect();
    show(nearest((event.clientX - bounds.left) / bounds.width));
  };
  area.addEventListener("pointermove", move);
  area.addEventListener("pointerdown", move);
  area.addEventListener("pointerleave", hide);
  area.addEventListener("blur", hide);
  area.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
    if (step === undefined) { if (event.key === "Escape") hide(); return; }
    event.preventDefault();
    show(Number(area.dataset.at || 0) + step);
  });
}
