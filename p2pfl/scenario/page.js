// Draws the figures in the colours the reader prefers, and keeps their time axes together.
"use strict";
(() => {
  const drawings = JSON.parse(document.getElementById("drawings").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false, // plotly would offer to upload the figure
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };

  // "@ink" is a name of a colour; everything else is as it is
  function painted(value) {
    if (typeof value === "string" && /^@[a-z-]+$/.test(value)) {
      const style = getComputedStyle(document.documentElement);
      return style.getPropertyValue("--" + value.slice(1)).trim() || value;
    }
    if (Array.isArray(value)) return value.map(painted);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, painted(one)]));
  }

  const narrow = () => window.innerWidth < 640;

  // on a phone fingers scroll the page, and buttons would lie over the numbers of the marks
  function fitted(drawing) {
    const { data, layout } = painted(drawing);
    layout.height = drawing.height;
    if (narrow()) {
      layout.dragmode = false;
      layout.font = { ...layout.font, size: 11 };
    }
    return [data, layout];
  }

  let range = null;

  function draw() {
    return Promise.all(
      drawings.map((drawing) => {
        const [data, layout] = fitted(drawing);
        if (range && drawing.over_time) layout.xaxis.range = range;
        const bar = { displayModeBar: !narrow() };
        return Plotly.react(drawing.name, data, layout, { ...config, ...bar });
      }),
    );
  }

  const timed = drawings.filter((drawing) => drawing.over_time);
  let busy = false;

  function zoom(begin, end) {
    range = begin === null ? null : [begin, end];
    busy = true;
    const moves = timed.map((drawing) =>
      Plotly.relayout(drawing.name, { "xaxis.range": range || [...drawing.layout.xaxis.range] }),
    );
    return Promise.all(moves).finally(() => (busy = false));
  }

  function follow(drawing) {
    const plot = document.getElementById(drawing.name);
    plot.on("plotly_relayout", (change) => {
      if (busy) return;
      const whole = change["xaxis.range"];
      if (whole) zoom(whole[0], whole[1]);
      else if ("xaxis.range[0]" in change) zoom(change["xaxis.range[0]"], change["xaxis.range[1]"]);
      else if (change["xaxis.autorange"]) zoom(null, null);
    });
    plot.on("plotly_doubleclick", () => zoom(null, null));
  }

  const form = document.getElementById("span");
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    const begin = Number(form.elements.begin.value);
    const end = Number(form.elements.end.value);
    if (begin < end) zoom(begin, end);
  });
  form?.addEventListener("reset", () => zoom(null, null));

  document.getElementById("copy")?.addEventListener("click", async (event) => {
    const text = document.getElementById("command").textContent;
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById("command"));
      button.textContent = "Selected";
    }
  });

  draw().then(() => {
    timed.forEach(follow);
    document.documentElement.dataset.drawn = String(drawings.length);
    dark.addEventListener("change", draw);
  });
})();
