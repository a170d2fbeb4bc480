"use strict";
(() => {
  const issues = [...document.querySelectorAll(".issue")];
  const words = document.getElementById("words");
  const status = document.getElementById("status");
  const count = document.getElementById("count");
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const issue of issues) {
      const text = issue.firstElementChild.textContent.toLowerCase();
      const fits = (!status.value || issue.classList.contains(status.value)) && wanted.every((word) => text.includes(word));
      issue.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${issues.length} issues`;
  };
  const reveal = () => {
    const issue = /^#i\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!issue) return;
    issue.hidden = false;
    issue.open = true;
    issue.scrollIntoView();
    issue.firstElementChild.focus({ preventScroll: true });
  };
  words.addEventListener("input", filter);
  status.addEventListener("change", filter);
  window.addEventListener("hashchange", reveal);
  document.getElementById("tools").hidden = false;
  filter();
  reveal();
})();
