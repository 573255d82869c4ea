// Copy buttons, and folded parts opened for print. The page is complete without this script.
"use strict";
document.documentElement.classList.add("js");

function copyBySelection(node) {
  const range = document.createRange();
  range.selectNodeContents(node);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  const done = document.execCommand("copy");
  selection.removeAllRanges();
  return done;
}

async function copy(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    return copyBySelection(node); // opened from a file, or permission refused
  }
}

for (const button of document.querySelectorAll("button.copy")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    button.textContent = (await copy(code)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = label; }, 1600);
  });
}

const folded = [];
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    part.open = true;
    folded.push(part);
  }
});
window.addEventListener("afterprint", () => {
  for (const part of folded.splice(0)) part.open = false;
});
