"""How the report looks, on a screen and on paper (A4)."""

from __future__ import annotations

from DALAnomalyLib.job.manifest import RESEARCH_USE

STYLE = f"""
:root {{ --ink: #1b1f24; --dim: #5c6670; --line: #d5dae0; --accent: #0f766e; --soft: #f4f6f8; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 24px; max-width: 1000px; color: var(--ink); background: white;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
h1 {{ font-size: 26px; line-height: 1.2; margin: 20px 0 4px; }}
h2 {{ font-size: 18px; margin: 28px 0 8px; padding-bottom: 4px; border-bottom: 2px solid var(--line); }}
h3 {{ font-size: 15px; margin: 18px 0 6px; }}
p {{ margin: 6px 0; }}
.banner {{ padding: 10px 14px; border-radius: 6px; background: #8c1d18; color: white; text-align: center; }}
.banner strong {{ display: block; font-size: 17px; }}
.summary {{ font-size: 17px; }}
.dim {{ color: var(--dim); font-size: 13px; }}
.warnings {{ margin: 14px 0; padding: 8px 14px; border-left: 5px solid #d97706; background: #fff7e6; }}
.warnings ul {{ margin: 4px 0; padding-left: 20px; }}
figure {{ margin: 16px 0 24px; }}
figcaption {{ margin-bottom: 6px; }}
figcaption strong {{ font-size: 16px; }}
figure img {{ display: block; width: 100%; height: auto; border-radius: 4px; }}
.mark {{ padding: 1px 8px; border-radius: 10px; background: var(--accent); color: white; font-size: 12px; }}
table {{ width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 4px 8px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }}
thead th {{ background: var(--soft); font-weight: 600; }}
.number {{ text-align: right; white-space: nowrap; }}
.short {{ white-space: nowrap; }}
tfoot td {{ font-weight: 600; }}
.columns {{ columns: 2; column-gap: 32px; }}
.columns section {{ break-inside: avoid; }}
.columns h3 {{ margin-top: 0; }}
.columns table {{ margin-bottom: 16px; }}
.facts {{ font-size: 12.5px; line-height: 1.35; }}
.facts th, .facts td {{ padding: 2px 6px; }}
.facts th {{ width: 42%; font-weight: 500; color: var(--dim); }}
.facts td {{ overflow-wrap: anywhere; }}
.steps th {{ width: 18%; }}
.steps td {{ overflow-wrap: normal; }}
footer {{ margin-top: 32px; }}
@page {{ size: A4; margin: 14mm 13mm 16mm;
  @bottom-left {{ content: "{RESEARCH_USE}"; font: 600 9pt sans-serif; }}
  @bottom-right {{ content: counter(page) " / " counter(pages); font: 9pt sans-serif; }} }}
@media print {{
  body {{ padding: 0; max-width: none; font-size: 10pt; }}
  h1 {{ font-size: 17pt; }}
  table {{ font-size: 9pt; }}
  .facts {{ font-size: 8pt; }}
  .dim {{ font-size: 8.5pt; }}
  h2 {{ font-size: 12.5pt; break-after: avoid; }}
  figure, tr, .warnings, .banner {{ break-inside: avoid; }}
  figure {{ margin: 3mm 0 5mm; }}
  figure img {{ width: auto; max-width: 100%; max-height: 114mm; }}
  thead {{ display: table-header-group; }}
  .banner, figure img, thead th, .warnings, .mark {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
}}
"""
