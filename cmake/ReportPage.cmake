# veomni_embed_report_page(TARGET t PAGE_DIR d): style, script and chart library of report.html, inside target t.
include(EmbedFile)

find_file(VEOMNI_CHART_JS chart.min.js
  PATHS /usr/share/javascript/chart.js /usr/share/nodejs/chart.js/dist
  DOC "Chart.js 3 (MIT), embedded in every report.html")
if(NOT VEOMNI_CHART_JS)
  message(FATAL_ERROR "chart.min.js not found: install Debian's or Ubuntu's libjs-chart.js, "
                      "or pass -DVEOMNI_CHART_JS=<file>.")
endif()
# The banner names the version; other major versions have another API.
file(READ ${VEOMNI_CHART_JS} _banner LIMIT 200)
if(NOT _banner MATCHES "Chart.js v3[.]")
  message(FATAL_ERROR "${VEOMNI_CHART_JS} is not Chart.js 3; pass -DVEOMNI_CHART_JS=<file>.")
endif()

function(veomni_embed_report_page)
  cmake_parse_arguments(A "" "TARGET;PAGE_DIR" "" ${ARGN})
  veomni_embed_file(TARGET ${A_TARGET} NAME kChartJs FILE ${VEOMNI_CHART_JS})
  veomni_embed_file(TARGET ${A_TARGET} NAME kReportCss FILE ${A_PAGE_DIR}/report.css)
  veomni_embed_file(TARGET ${A_TARGET} NAME kReportJs FILE ${A_PAGE_DIR}/report.js)
endfunction()
