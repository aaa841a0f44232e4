"""The look of a report: light, and fit for paper."""

CSS = """
:root { color-scheme: light; --text: #18212c; --muted: #556170; --line: #dbe0e7; --soft: #f5f7fa; --accent: #1d5fd0;
  --profit: #14794f; --loss: #c2323c; --amber: #96600a; }
* { box-sizing: border-box; }
body { margin: 0; background: #e9ecf1; color: var(--text); font: 14px/1.5 Inter, "Segoe UI", "Noto Sans", Ubuntu,
  Cantarell, Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1080px; margin: 24px auto; padding: 40px 44px 28px; background: #fff; border-radius: 10px;
  box-shadow: 0 1px 3px rgba(24, 33, 44, .12), 0 12px 32px rgba(24, 33, 44, .08); }
header { display: flex; justify-content: space-between; align-items: flex-start; gap: 24px;
  padding-bottom: 18px; border-bottom: 2px solid var(--text); }
h1 { margin: 2px 0 4px; font-size: 27px; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 34px 0 10px; font-size: 16px; letter-spacing: -.005em; break-after: avoid; }
h3 { margin: 0 0 6px; font-size: 13px; color: var(--muted); font-weight: 600; break-after: avoid; }
p { margin: 0 0 8px; }
.brand { color: var(--accent); font-weight: 700; font-size: 12px; letter-spacing: .09em; text-transform: uppercase; }
.muted, .note { color: var(--muted); }
.note { font-size: 12.5px; }
.warn { margin: 12px 0 0; padding: 8px 14px; color: var(--amber); background: #fdf6e7; border-radius: 8px; }
.made { text-align: right; color: var(--muted); font-size: 12.5px; white-space: nowrap; }
.pill { display: inline-block; padding: 2px 10px; border-radius: 999px; font-size: 12px; font-weight: 600;
  border: 1px solid currentColor; white-space: nowrap; }
.green, .gain { color: var(--profit); } .red, .lost { color: var(--loss); } .amber { color: var(--amber); }
.none { color: var(--muted); }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 10px; margin: 22px 0 6px; }
.tile { padding: 11px 14px 10px; background: var(--soft); border: 1px solid var(--line); border-radius: 8px;
  break-inside: avoid; }
.tile b { display: block; font-size: 21px; line-height: 1.25; letter-spacing: -.01em; font-weight: 650; }
.tile span { color: var(--muted); font-size: 12px; }
.key { display: flex; gap: 18px; margin: 0 0 4px 78px; font-size: 12px; color: var(--muted); }
.key i { display: inline-block; width: 18px; height: 0; margin-right: 6px; vertical-align: middle;
  border-top: 2px solid var(--accent); }
.key i.other { border-top: 2px dashed #8b96a3; } .key i.under { border-top: 7px solid #e9b7ba; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg .tick { font-size: 12px; fill: #556170; }
svg .grid { stroke: #e8ebf0; stroke-width: 1; } svg .axis { stroke: #aab3bf; stroke-width: 1; }
svg .zero { stroke: #556170; stroke-width: 1; stroke-dasharray: 3 3; }
svg .equity { fill: none; stroke: #1d5fd0; stroke-width: 1.7; stroke-linejoin: round; }
svg .held { fill: none; stroke: #8b96a3; stroke-width: 1.2; stroke-dasharray: 5 4; stroke-linejoin: round; }
svg .depth { fill: #e9b7ba; stroke: #c2323c; stroke-width: .8; stroke-linejoin: round; }
svg .profit { fill: #2b9a6a; } svg .loss { fill: #d4555d; } svg .dot { fill-opacity: .62; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 28px; } .pair > div { break-inside: avoid; }
.groups { display: grid; grid-template-columns: repeat(3, 1fr); gap: 22px 30px; align-items: start; }
.groups section { break-inside: avoid; }
table { width: 100%; border-collapse: collapse; font-size: 13px; }
th { font-weight: 600; text-align: left; color: var(--muted); border-bottom: 1px solid #bcc5d0; padding: 4px 8px; }
td { padding: 3.5px 8px; border-bottom: 1px solid #edf0f4; vertical-align: top; overflow-wrap: anywhere; }
th:first-child, td:first-child { padding-left: 0; } th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; overflow-wrap: normal; } tr { break-inside: avoid; }
thead { display: table-header-group; }
.groups td:first-child, .facts td:first-child { color: var(--muted); }
.facts td:first-child { width: 200px; white-space: nowrap; }
.checks td:first-child { min-width: 130px; overflow-wrap: normal; } .checks .pill { font-size: 11px; padding: 0 8px; }
.months td, .months th { text-align: right; padding: 4px 5px; border: 1px solid #fff; font-size: 12px; }
.months td:first-child, .months th:first-child { text-align: left; padding-left: 0; font-weight: 600; }
.months td:last-child { font-weight: 650; }
.trades { font-size: 12px; } .trades td, .trades th { padding: 2.5px 6px; }
code, pre { font: 12px/1.5 ui-monospace, "Cascadia Mono", Consolas, "DejaVu Sans Mono", Menlo, monospace; }
td code { overflow-wrap: anywhere; }
pre { margin: 0 0 8px; padding: 10px 14px; background: var(--soft); border: 1px solid var(--line); border-radius: 8px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 34px; padding-top: 12px; border-top: 1px solid var(--line); color: var(--muted);
  font-size: 12px; }
@media screen and (max-width: 760px) {
  main { margin: 0; padding: 20px 16px; border-radius: 0; } header { display: block; }
  .made { text-align: left; } .tiles { grid-template-columns: repeat(2, 1fr); }
  .pair, .groups { grid-template-columns: 1fr; } .wide { overflow-x: auto; } }
@media print { @page { size: A4; margin: 14mm 13mm; } body { background: #fff; font-size: 11.5px; }
  main { max-width: none; margin: 0; padding: 0; box-shadow: none; border-radius: 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2 { margin-top: 22px; } table { font-size: 10.5px; } .trades, .months td, .months th { font-size: 9.5px; }
  .trades td, .trades th { padding: 1.5px 4px; } .groups { gap: 14px 20px; } .pair { gap: 16px; }
  .tile b { font-size: 17px; } }
"""
