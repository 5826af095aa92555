"use strict";
// Heads of the table of all trials sort it: numbers by what they are, those that are none last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.key;
    if (text === undefined) return cell.textContent;
    return text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text);
  };
  const order = (a, b, sign) => {
    const none = value => value === "" || Number.isNaN(value);
    if (none(a) || none(b)) return none(a) - none(b);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const rows = [...body.rows].map(row => [key(row, column), row]);
      rows.sort((a, b) => order(a[0], b[0], sign));
      body.append(...rows.map(pair => pair[1]));
    });
  });
}
// What a point is, at once and for the keyboard as well: the titles become a text of the page's own.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
for (const title of document.querySelectorAll("main svg title")) {
  const mark = title.parentElement;
  mark.dataset.tip = title.textContent;
  if (mark.hasAttribute("tabindex")) {
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", title.textContent);
  }
  title.remove();
}
const show = (mark, x, y) => {
  tip.hidden = false;
  tip.textContent = mark.dataset.tip;
  const left = Math.min(x + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const above = y - tip.offsetHeight - 12;
  tip.style.left = Math.max(8, left) + scrollX + "px";
  tip.style.top = (above < 8 ? y + 18 : above) + scrollY + "px";
};
const marked = event => event.target.closest("[data-tip]");
document.addEventListener("pointerover", event => {
  if (marked(event)) show(marked(event), event.clientX, event.clientY);
});
// A finger is lifted at once: what it shows stays until the next touch.
document.addEventListener("pointerout", event => {
  if (marked(event) && event.pointerType !== "touch") tip.hidden = true;
});
document.addEventListener("pointerdown", event => { tip.hidden = tip.hidden || !marked(event); });
document.addEventListener("focusin", event => {
  const box = marked(event)?.getBoundingClientRect();
  if (box) show(marked(event), box.right, box.top);
});
document.addEventListener("focusout", () => { tip.hidden = true; });
document.addEventListener("keydown", event => { if (event.key === "Escape") tip.hidden = true; });
