// Icons, drawn in the colour of the text around them. They are never alone: words stand beside them.

const SVG = "http://www.w3.org/2000/svg";

const RING = "M8 2.500a5.500 5.500 0 1 0 0 11a5.500 5.500 0 1 0 0-11";
const EYE = "M1.500 8C3 5 5.300 3.500 8 3.500S13 5 14.500 8C13 11 10.700 12.500 8 12.500S3 11 1.500 8z";

const PATHS = {
  check: "M3.5 8.5l3 3 6-7",
  circle: RING,
  clock: `${RING}M8 5v3.200l2 1.500`,
  alert: "M8 2.200L14.300 13.300H1.700zM8 6.500v3M8 11.400v.1",
  slash: `${RING}M4.200 4.200l7.600 7.600`,
  question: `${RING}M6.300 6.600c0-2.300 3.500-2.200 3.500 0C9.800 7.900 8 7.800 8 9.200M8 11.300v.1`,
  dots: `${RING}M5.500 8v.1M8 8v.1M10.500 8v.1`,
  pause: "M5.500 4v8M10.500 4v8",
  eye: `${EYE}M8 6a2 2 0 1 0 0 4a2 2 0 1 0 0-4`,
  eyeOff: `${EYE}M2.500 13.500l11-11`,
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M5.500 5.500h7v8h-7zM3 10.500v-8h7",
  out: "M6.500 3.500h-3v9h9v-3M9 2.500h4.500v4.500M13.500 2.500l-6 6",
  info: `${RING}M8 7.500v3.200M8 5.200v.1`,
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
