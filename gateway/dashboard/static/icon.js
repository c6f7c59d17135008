// Icons, drawn in the colour of the text around them. They are never alone: words stand beside them.

const SVG = "http://www.w3.org/2000/svg";

const RING = "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11";
const EYE = "M1.5 8C3 5 5.3 3.5 8 3.5S13 5 14.5 8C13 11 10.7 12.5 8 12.5S3 11 1.5 8z";

const PATHS = {
  check: "M3.5 8.5l3 3 6-7",
  circle: RING,
  clock: `${RING}M8 5v3.2l2 1.5`,
  alert: "M8 2.2L14.3 13.3H1.7zM8 6.5v3M8 11.4v.1",
  slash: `${RING}M4.2 4.2l7.6 7.6`,
  question: `${RING}M6.3 6.6c0-2.3 3.5-2.2 3.5 0C9.8 7.9 8 7.8 8 9.2M8 11.3v.1`,
  dots: `${RING}M5.5 8v.1M8 8v.1M10.5 8v.1`,
  pause: "M5.5 4v8M10.5 4v8",
  eye: `${EYE}M8 6a2 2 0 1 0 0 4a2 2 0 1 0 0-4`,
  eyeOff: `${EYE}M2.5 13.5l11-11`,
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M5.5 5.5h7v8h-7zM3 10.5v-8h7",
  out: "M6.5 3.5h-3v9h9v-3M9 2.5h4.5v4.5M13.5 2.5l-6 6",
  info: `${RING}M8 7.5v3.2M8 5.2v.1`,
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
