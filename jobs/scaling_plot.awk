# Draws what scaling.sbatch measured (kind,ranks,nodes,images_per_sec,efficiency_percent) as SVG: images/s over ranks, both logarithmic, with
# the line that weak scaling would follow if nothing were lost.
#   awk -F, -f jobs/scaling_plot.awk table.csv > plot.svg

NR > 1 {
    speed[$1, ++count[$1]] = $4
    ranks[$1, count[$1]] = $2
    if ($4 + 0 <= 0) { print "no speed in the table: " $0 > "/dev/stderr"; failed = 1; exit 2 }
    if ($2 > most) most = $2
    if (!least || $4 < least) least = $4
    if ($4 > greatest) greatest = $4
}

function log2(value) { return log(value) / log(2) }
function x(n) { return 80 + 480 * (most > 1 ? log2(n) / log2(most) : 0) }
function y(value) { return 350 - 310 * (log2(value) - bottom) / (top - bottom) }
function text(at_x, at_y, anchor, words) { printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", at_x, at_y, anchor, words }
function line(x1, y1, x2, y2, style) { printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style }

function curve(kind, colour, legend,    i) {
    printf "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour
    for (i = 1; i <= count[kind]; i++) printf "%.1f,%.1f ", x(ranks[kind, i]), y(speed[kind, i])
    print "\"/>"
    for (i = 1; i <= count[kind]; i++) printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x(ranks[kind, i]), y(speed[kind, i]), colour
    printf "<g fill=\"%s\">", colour
    text(90, legend, "start", kind)
    print "</g>"
}

END {
    if (failed) exit 2
    if (!count["weak"]) { print "no row of weak scaling in the table" > "/dev/stderr"; exit 2 }
    ideal = speed["weak", 1] * most
    if (ideal > greatest) greatest = ideal
    bottom = int(log2(least)) - (log2(least) < 0)
    top = int(log2(greatest)) + 1
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 600 400\" font-family=\"sans-serif\" font-size=\"13\">"
    print "<rect width=\"600\" height=\"400\" fill=\"white\"/>"
    for (step = bottom; step <= top; step++) {
        line(80, y(2 ^ step), 560, y(2 ^ step), "stroke=\"#ddd\"")
        text(74, y(2 ^ step) + 4, "end", 2 ^ step)
    }
    for (i = 1; i <= count["weak"]; i++) text(x(ranks["weak", i]), 368, "middle", ranks["weak", i])
    text(320, 390, "middle", "ranks")
    text(80, 22, "start", "images/s; dashed: nothing lost")
    line(x(1), y(speed["weak", 1]), x(most), y(ideal), "stroke=\"#888\" stroke-dasharray=\"5 4\"")
    curve("weak", "#1f77b4", 58)
    curve("strong", "#d62728", 76)
    print "</svg>"
}
