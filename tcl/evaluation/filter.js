"use strict";
// Without it the page lacks nothing but the field for words and what is said where nothing is left.
const words = document.getElementById("words");
if (words) {
  const sections = [...document.querySelectorAll("section[data-filtered]")];
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const section of sections) {
      const articles = [...section.querySelectorAll("article")];
      for (const article of articles) {
        const said = article.dataset.words.toLowerCase();
        article.hidden = !wanted.every((word) => said.includes(word));
      }
      const left = articles.filter((article) => getComputedStyle(article).display !== "none").length;
      section.querySelector(".none").hidden = left > 0;
      section.querySelector(".left").textContent = left === articles.length ? "" : `, ${left} of them left by the filter`;
    }
  };
  words.hidden = false;
  words.addEventListener("input", show);
  document.addEventListener("change", show);
  show();
}
