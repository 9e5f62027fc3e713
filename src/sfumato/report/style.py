"""The style sheet of all pages: warm paper by day, warm dark by night, one accent, type that is easy to read.

No outside fonts: a humanist serif from what the reader's system has for headings, its own sans for text.
Numbers are tabular. Pixels of samples stay pixels. On paper only what can be printed is left.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf7f2; --card: #fffdf9; --ink: #2b2824; --soft: #6f685e; --line: #e4ddd2;
  --accent: #8c4f1d; --warn: #a6421b; --warn-paper: #fbeee4; --code: #f2ece3;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", "Book Antiqua", Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #191715; --card: #211e1b; --ink: #e6e0d6; --soft: #a19a8e; --line: #38332d;
    --accent: #dfa46c; --warn: #f09a6a; --warn-paper: #33231a; --code: #2a2622;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; padding: 4.5rem 1.5rem 6rem; background: var(--paper); color: var(--ink);
  font: 400 1rem/1.6 var(--sans);
}
main, header, footer { max-width: 58rem; margin: 0 auto; }
header { margin-bottom: 3rem; }
.kind {
  margin: 0 0 .6rem; color: var(--accent); font-size: .8rem; letter-spacing: .14em;
  text-transform: uppercase;
}
h1 {
  margin: 0 0 .8rem; font: 400 clamp(2rem, 5vw, 3.1rem)/1.1 var(--serif); letter-spacing: -.01em;
  overflow-wrap: anywhere;
}
.lead {
  margin: 0; max-width: 44rem; color: var(--soft); font: 400 1.2rem/1.5 var(--serif);
  overflow-wrap: anywhere;
}
section { margin: 3.6rem 0 0; }
h2 {
  margin: 0 0 1.2rem; padding-top: .9rem; border-top: 1px solid var(--line);
  font: 400 1.55rem/1.25 var(--serif);
}
h3 { margin: 0 0 .5rem; font: 600 .95rem/1.4 var(--sans); overflow-wrap: anywhere; }
p { margin: 0 0 1rem; max-width: 44rem; }
.hint { color: var(--soft); font-size: .9rem; }
.remarks { margin: 0; padding: 0; list-style: none; }
.remarks li {
  padding: .55rem 0 .55rem 1.1rem; border-left: 3px solid var(--line); margin: 0 0 .5rem;
  overflow-wrap: anywhere;
}
.remarks .warning { border-color: var(--warn); background: var(--warn-paper); padding-right: 1rem; }
.warning b { color: var(--warn); }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; }
figure img.pixels { image-rendering: pixelated; }
figure img.plot { width: 100%; }
figcaption { margin-top: .6rem; color: var(--soft); font-size: .88rem; overflow-wrap: anywhere; }
.film { display: flex; flex-wrap: wrap; gap: .35rem; }
.film .frame { display: contents; }
.film label {
  order: 1; padding: .2rem .75rem; border: 1px solid var(--line); border-radius: 99px; color: var(--soft);
  font-size: .85rem; font-variant-numeric: tabular-nums; cursor: pointer;
}
.film label:hover { color: var(--ink); border-color: var(--soft); }
.film input { position: absolute; opacity: 0; pointer-events: none; }
.film input:checked + label { background: var(--ink); border-color: var(--ink); color: var(--paper); }
.film input:focus-visible + label { outline: 2px solid var(--accent); outline-offset: 2px; }
.film figure { order: 2; flex: 0 0 100%; margin-top: .8rem; }
.film input:not(:checked) ~ figure { display: none; }
.pictures, .plots { display: grid; gap: 2.4rem 2rem; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.pair { display: grid; gap: 2rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.plots figure { max-width: 36rem; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption {
  padding: 0 0 .5rem; color: var(--soft); font-size: .85rem; text-align: left;
  overflow-wrap: anywhere;
}
th, td {
  padding: .42rem 1rem .42rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline;
}
th { font-weight: 500; }
thead th { color: var(--soft); font-size: .8rem; letter-spacing: .04em; }
td.number, th.number { width: 6.4rem; text-align: right; white-space: nowrap; }
th[scope=row] { width: 11.5rem; }
td.spread { color: var(--soft); }
td.note { padding-left: 1rem; color: var(--soft); font-size: .85rem; min-width: 12rem; }
tr.best td.number, tr.best th { font-weight: 650; }
tr.apart { color: var(--soft); }
.metrics { margin-bottom: 2.8rem; }
.metrics figure { margin-bottom: .9rem; }
.metrics .hint { margin-bottom: .4rem; }
.facts {
  display: grid; gap: 2rem 3rem;
  grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr));
}
dl {
  display: grid; grid-template-columns: minmax(7rem, auto) 1fr; gap: .3rem 1.2rem; margin: 0;
  font-size: .93rem;
}
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.steps { margin: 0; }
.steps p { margin: 0 0 .3rem; }
pre {
  margin: 0 0 1.3rem; padding: .75rem 1rem; overflow-x: auto; background: var(--code); border-radius: 6px;
  font: 400 .88rem/1.5 var(--mono);
}
footer {
  margin-top: 5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem;
}
@media print {
  body { padding: 0; background: none; }
  .film label { display: none; }
  section { break-inside: avoid-page; }
}
"""
