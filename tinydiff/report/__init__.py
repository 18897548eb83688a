"""What a run shows of itself: pictures, charts, progress in the terminal and a page. Pillow and NumPy alone; it knows no network.

    pictures.py     sheets, strips and animations of small pictures
    points.py       points in the plane, and arrows
    neighbours.py   generated pictures beside the training pictures nearest to them
    log.py          the figures of a run, read from its log.csv
    charts.py       the loss as PNG, as SVG and as text
    schedule_chart.py  alpha, sigma and log SNR of noise schedules as a PNG
    observation.py  what an epoch's losses show, in words, and what few pictures lead to
    progress.py     the live line and the table in the terminal
    page.py         report.html: the run as a course of four stages (style.py, fragments.py, quiz.py are its parts)

Read first: nothing.
"""
from tinydiff.report.charts import loss_png, loss_svg, loss_text
from tinydiff.report.log import RunLog, read_log
from tinydiff.report.neighbours import neighbour_sheet
from tinydiff.report.observation import few_pictures, observation
from tinydiff.report.page import write_page
from tinydiff.report.pictures import denoising_frame, gif, grid, side_by_side, strip
from tinydiff.report.points import arrows, point_cloud
from tinydiff.report.progress import LiveLine, Progress, duration, writes_unicode
from tinydiff.report.schedule_chart import schedules_png

__all__ = ["LiveLine", "Progress", "RunLog", "arrows", "denoising_frame", "duration", "few_pictures", "gif", "grid", "loss_png", "loss_svg",
           "loss_text", "neighbour_sheet", "observation", "point_cloud", "read_log", "schedules_png", "side_by_side", "strip", "write_page",
           "writes_unicode"]
