"""The style sheet of the report: one column, light or dark as the reader's system is, from a phone's width up.

Read first: `page.py`.
"""

STYLE = """
:root { color-scheme: light dark; --paper: #faf9f6; --card: #ffffff; --ink: #1e222b; --muted: #666d7a; --line: #e3e1db;
  --train: #d9700f; --held-out: #1583a8; --accent: #b9560a; --tint: #fdf1e4; --film: #17191f; }
@media (prefers-color-scheme: dark) { :root { --paper: #101217; --card: #181b22; --ink: #e6e8ec; --muted: #9aa1ae; --line: #2c303a;
  --train: #ff9f43; --held-out: #5ec8e5; --accent: #ffb169; --tint: #241d17; --film: #17191f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: break-word; -webkit-text-size-adjust: 100%; }
main { max-width: 1136px; margin: 0 auto; padding: 0 1.5rem 4rem; }
p, ul, ol, h1, h2, h3, .quiz { max-width: 44rem; }
a { color: var(--accent); }
header { padding: 4rem 0 1rem; }
.kicker { margin: 0 0 .5rem; color: var(--accent); font-weight: 600; letter-spacing: .02em; }
h1 { margin: 0 0 1rem; font-size: clamp(2rem, 6vw, 3.25rem); line-height: 1.1; letter-spacing: -.025em; text-wrap: balance; }
h2 { display: flex; align-items: center; gap: .75rem; margin: 0 0 .75rem; font-size: 1.6rem; line-height: 1.2; letter-spacing: -.015em; }
h2 b { flex: none; width: 2.25rem; height: 2.25rem; border-radius: 50%; background: var(--accent); color: var(--paper); font-size: 1.1rem;
  line-height: 2.25rem; text-align: center; letter-spacing: 0; }
h3 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
section { margin-top: 3rem; padding-top: 2.5rem; border-top: 1px solid var(--line); }
nav { display: flex; flex-wrap: wrap; gap: .4rem 1.25rem; margin-top: 1.25rem; font-weight: 500; }
nav a { text-decoration: none; }
.figures { display: flex; flex-wrap: wrap; gap: 1px; margin: 2rem 0 0;
  border: 1px solid var(--line);
  border-radius: 12px; background: var(--line); overflow: hidden; }
.figures div { flex: 1 1 8.5rem; padding: .9rem 1.1rem; background: var(--card); }
.figures dt { color: var(--muted); font-size: .85rem; }
.figures dd { margin: 0; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.flow { display: flex; flex-wrap: wrap; align-items: center; gap: .45rem .6rem; margin: 1.25rem 0; padding: 0; max-width: none;
  list-style: none; }
.flow li { display: flex; align-items: center; gap: .6rem; }
.flow li:not(:first-child)::before { content: "\\2192"; color: var(--muted); }
.flow span { padding: .35rem .7rem; border: 1px solid var(--line); border-radius: 8px; background: var(--card); line-height: 1.3; }
.flow small { display: block; color: var(--muted); font-size: .75rem; }
code, .flow span { font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .875rem; }
.formula { margin: 1.25rem 0; padding: .9rem 1.2rem; border-radius: 10px; background: var(--tint);
  font: 1.3rem/1.4 Georgia, "Times New Roman", serif; }
figure { margin: 1.5rem 0; }
figure img, .strip { max-width: 100%; border-radius: 12px; background: var(--film); overflow: hidden; }
figure img { display: block; height: auto; }
figure img[src^="data:image/gif"] { width: min(100%, 864px); }
figcaption { max-width: 44rem; margin-top: .6rem; color: var(--muted); font-size: .9rem; line-height: 1.5; }
.strip { display: grid; grid-template-columns: 1fr 1fr; }
.strip i { aspect-ratio: var(--half); background: var(--picture) left / 200% 100%; }
.strip i + i { background-position: right; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); gap: 1rem; }
.gallery figure { margin: 0; }
.gallery img { width: 100%; }
.chart { display: block; width: 100%; max-width: 860px; height: auto; padding: .75rem .5rem 0; border: 1px solid var(--line);
  border-radius: 12px;
  background: var(--card); }
.chart text { fill: var(--muted); font: 13px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.key { display: inline-block; width: .7em; height: .7em; margin: 0 .35em 0 .1em; border-radius: 50%; background: var(--train); }
.key.held-out { margin-left: 1em; background: var(--held-out); }
table { width: 100%; max-width: 860px; border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { color: var(--muted); font-weight: 500; }
th:last-child, td:last-child, .settings th, .settings td { padding-right: 0; text-align: left; }
.settings td { padding-left: 1rem; font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .85rem;
  overflow-wrap: anywhere; }
td b { font-weight: 600; }
details { max-width: 860px; margin: .6rem 0; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
summary { padding: .7rem 1rem; cursor: pointer; font-weight: 500; }
details > :not(summary) { margin: 0 1rem 1rem; width: auto; }
.missing { padding: .9rem 1.2rem; border: 1px dashed var(--line); border-radius: 10px; color: var(--muted); }
.insight { padding: 2rem; border: 0; border-radius: 16px; background: var(--tint); }
.insight p { margin: 0; font-size: clamp(1.2rem, 3.4vw, 1.5rem); line-height: 1.45; letter-spacing: -.01em; }
.insight p + p { margin-top: 1rem; font-size: 1.0625rem; line-height: 1.6; letter-spacing: 0; }
footer { margin-top: 3rem; color: var(--muted); font-size: .9rem; }
@media (min-width: 1136px) { .pixels { image-rendering: pixelated; } }
@media (max-width: 640px) {
  main { padding: 0 1rem 3rem; }
  header { padding-top: 2.25rem; }
  .figures { grid-template-columns: 1fr 1fr; }
  .strip { grid-template-columns: 1fr; }
  .gallery { grid-template-columns: 1fr 1fr; gap: .6rem; }
  th, td { padding-right: .6rem; }
  .insight { padding: 1.4rem 1.2rem; }
  .chart text { font-size: 24px; }
  .flow { gap: .35rem .4rem; }
  .flow li { gap: .4rem; }
  .flow span { padding: .3rem .5rem; font-size: .8rem; }
  table { font-size: .875rem; line-height: 1.4; }
}
"""
