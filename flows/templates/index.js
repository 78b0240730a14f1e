// Sorts by a heading that is clicked, filters by words and status; without scripts the table is whole, newest first.
"use strict";
const table = document.getElementById("runs");
const rows = Array.from(table.tBodies[0].rows);
const words = document.getElementById("words");
const status = document.getElementById("status");
const shown = document.getElementById("shown");

function filter() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = wanted.every((word) => text.includes(word)) && (!status.value || row.dataset.status === status.value);
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = `${count} of ${rows.length} runs`;
}

function sort(heading) {
  const column = heading.cellIndex;
  const falls = heading.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
  const numeric = rows.every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
  const compare = numeric ? (a, b) => Number(key(a)) - Number(key(b)) : (a, b) => key(a).localeCompare(key(b));
  rows.sort((a, b) => (falls ? -compare(a, b) : compare(a, b)));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falls ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

words.addEventListener("input", filter);
status.addEventListener("change", filter);
for (const button of table.tHead.querySelectorAll("button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
document.getElementById("filters").hidden = false;
filter();
