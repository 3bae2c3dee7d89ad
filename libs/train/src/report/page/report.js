(() => {
  'use strict';

  const data = JSON.parse(document.getElementById('charts').textContent);
  const views = [];
  let smoothing = 0.9;
  let hoverX = null;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const seriesColor = (i) => css('--series-' + (i % 6 + 1));

  const isDashed = (i) => i >= 6;  // the colours' second turn

  // "#2f6bd8" with an opacity
  const fade = (color, alpha) => color + Math.round(alpha * 255).toString(16).padStart(2, '0');

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const minus = (text) => text.replaceAll('-', '\u2212');

  // Four digits, "21.50k"; `trim` drops the zeros at the end, for axes.
  function shortNumber(value, digits = 4, trim = false) {
    if (value === null || !Number.isFinite(value)) return '–';
    const text = (number, n) => trim || Number.isInteger(number) ? String(Number(number.toPrecision(n))) : number.toPrecision(n);
    const size = Math.abs(value);
    if (size === 0) return '0';
    if (size >= 1e15 || size < 1e-3) {
      const power = value.toExponential(Math.max(digits - 2, 0));
      return minus((trim ? Number(power).toExponential() : power).replace('e+', 'e'));
    }
    for (const [unit, least, scale] of [['T', 1e12, 1e12], ['G', 1e9, 1e9], ['M', 1e6, 1e6], ['k', 1e4, 1e3]]) {
      if (size >= least) return minus(text(value / scale, digits)) + unit;
    }
    return minus(text(value, digits));
  }
  const wholeNumber = (value) => Number.isInteger(value) ? value.toLocaleString('en-US') : shortNumber(value);

  // On an axis every tick has the digits that tell it from its neighbour.
  function tickText(value, index, ticks) {
    if (value === 0) return '0';
    const gap = ticks.length > 1 ? Math.abs(ticks[1].value - ticks[0].value) : Math.abs(value);
    const digits = Math.ceil(Math.log10(Math.abs(value) / gap) + 1e-9) + 1;
    return shortNumber(value, Math.min(Math.max(digits, 3), 7), true);
  }

  // Round numbers between two bounds, dense enough to read and no denser.
  function logTicks(low, high) {
    const choose = (leads, powers) => {
      const ticks = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += powers) {
        for (const lead of leads) ticks.push(Number(lead + 'e' + power));
      }
      return ticks.filter((tick) => tick >= low && tick <= high);
    };
    const decades = Math.log10(high / low);
    const ticks = decades > 3 ? choose([1], Math.ceil(decades / 6)) : choose([1, 2, 5], 1);
    return ticks.length >= 3 ? ticks : choose([1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], 1);
  }

  // Every value becomes the mean of all, weighted by keep^distance: an exponential average that looks both ways and
  // so does not lag behind. Gaps stay gaps.
  function smooth(values, keep) {
    const sums = values.map(() => 0), weights = values.map(() => 0);
    const sweep = (first, step) => {
      let sum = 0, weight = 0;
      for (let i = first; i >= 0 && i < values.length; i += step) {
        sums[i] += sum;
        weights[i] += weight;
        if (values[i] === null) continue;
        sum = keep * (sum + values[i]);
        weight = keep * (weight + 1);
      }
    };
    sweep(0, 1);
    sweep(values.length - 1, -1);
    return values.map((value, i) => value === null ? null : (sums[i] + value) / (weights[i] + 1));
  }

  // Curves of few points, such as evaluations, are shown as they are, with their points.
  const isDense = (curve) => curve.x.length > 60;
  const isSmoothed = (chart, curve) => chart.smooth && smoothing > 0 && isDense(curve);
  const points = (curve, values) => values.map((y, i) => ({x: curve.x[i], y}));

  function datasetsOf(view) {
    const lines = [], faint = [];
    view.chart.curves.forEach((curve, i) => {
      const color = seriesColor(i), smoothed = isSmoothed(view.chart, curve);
      view.shown[i] = smoothed ? smooth(curve.y, smoothing) : curve.y;
      const line = {
        data: points(curve, view.shown[i]), borderColor: color, backgroundColor: color, hidden: view.hidden.has(i),
        borderWidth: smoothed || !isDense(curve) ? 2 : 1.5, borderJoinStyle: 'round',
        borderDash: isDashed(i) ? [4, 3] : [],
        pointRadius: isDense(curve) ? 0 : 2.5, clip: 6,
      };
      if (smoothed) {
        faint.push({...line, data: points(curve, curve.y), borderColor: fade(color, 0.28), borderWidth: 1});
      }
      lines.push(line);
    });
    return [...lines.reverse(), ...faint].map((set, order) => ({...set, order}));
  }

  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= x) low = middle; else high = middle;
    }
    return high >= 0 && Math.abs(xs[high] - x) < Math.abs(xs[low] - x) ? high : low;
  };

  function lastFinite(values) {
    for (let i = values.length - 1; i >= 0; --i) if (values[i] !== null) return i;
    return -1;
  }

  // Without a pointer on the page the last values; under it, those nearest to its step.
  const indexShown = (view, i) =>
      hoverX === null ? lastFinite(view.chart.curves[i].y) : nearest(view.chart.curves[i].x, hoverX);

  function updateReadout(view) {
    let at = null;
    view.chart.curves.forEach((curve, i) => {
      const index = indexShown(view, i);
      view.values[i].textContent = index < 0 ? '–' : shortNumber(view.shown[i][index]);
      if (index >= 0 && (at === null || Math.abs(curve.x[index] - hoverX) < Math.abs(at - hoverX))) at = curve.x[index];
    });
    view.at.textContent = hoverX === null || at === null ? '' : view.chart.x_name + ' ' + wholeNumber(at);
  }

  const crosshair = {
    id: 'crosshair',
    afterDatasetsDraw(plot) {
      if (hoverX === null) return;
      const {ctx, chartArea: area, scales: {x, y}} = plot;
      const view = plot.options.view, left = Math.round(x.getPixelForValue(hoverX)) + 0.5;
      if (left < area.left || left > area.right) return;
      ctx.save();
      ctx.strokeStyle = css('--faint');
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.moveTo(left, area.top);
      ctx.lineTo(left, area.bottom);
      ctx.stroke();
      view.chart.curves.forEach((curve, i) => {
        const index = nearest(curve.x, hoverX), value = view.shown[i][index];
        if (view.hidden.has(i) || value === null || value === undefined) return;
        ctx.beginPath();
        ctx.arc(x.getPixelForValue(curve.x[index]), y.getPixelForValue(value), 3.5, 0, 2 * Math.PI);
        ctx.fillStyle = seriesColor(i);
        ctx.fill();
        ctx.strokeStyle = css('--card');
        ctx.lineWidth = 1.5;
        ctx.stroke();
      });
      ctx.restore();
    },
  };

  function logAxis(view) {
    const values = view.chart.curves.flatMap((curve, i) => view.hidden.has(i) ? [] : curve.y).filter((y) => y > 0);
    if (values.length === 0) return {type: 'logarithmic'};
    // Not Math.min(...values): long argument lists overflow the stack.
    const low = values.reduce((a, b) => Math.min(a, b)) / 1.08, high = values.reduce((a, b) => Math.max(a, b)) * 1.08;
    const afterBuildTicks = (scale) => { scale.ticks = logTicks(low, high).map((value) => ({value})); };
    return {type: 'logarithmic', min: low, max: high, afterBuildTicks};
  }

  function linearAxis(view) {
    const values = view.chart.curves.flatMap((curve) => curve.y).filter((y) => y !== null);
    // About a constant the library would draw an axis from -1 to 1, however small it is.
    const flat = values.length > 0 && values[0] !== 0 && values.every((y) => y === values[0]);
    const reach = Math.abs(values[0]) / 2;
    return {type: 'linear', ...(flat ? {min: values[0] - reach, max: values[0] + reach} : {})};
  }

  function axes(view) {
    const ticks = {color: css('--faint'), font: {size: 11}, maxRotation: 0};
    const grid = {color: css('--grid'), drawBorder: false, drawTicks: false};
    const xs = view.chart.curves.flatMap((curve) => [curve.x[0], curve.x[curve.x.length - 1]]);
    const first = Math.min(...xs), last = Math.max(...xs), margin = first === last ? 1 : 0;
    return {
      x: {
        type: 'linear', min: first - margin, max: last + margin, grid: {display: false, drawBorder: false},
        ticks: {...ticks, padding: 4, maxTicksLimit: 7, includeBounds: false,
                callback: (value) => Number.isInteger(value) ? shortNumber(value, 6, true) : ''},
      },
      y: {
        ...(view.log ? logAxis(view) : linearAxis(view)), grid,
        ticks: {...ticks, padding: 8, maxTicksLimit: 6, callback: view.log ? (value) => shortNumber(value, 3, true) : tickText},
        // Axes of one width keep the plots of a column aligned.
        afterFit: (scale) => { scale.width = 52; },
      },
    };
  }

  function update(view) {
    view.plot.data.datasets = datasetsOf(view);
    view.plot.options.scales = axes(view);
    view.plot.update('none');
    updateReadout(view);
  }

  function buildReadout(view, element) {
    view.chart.curves.forEach((curve, i) => {
      const value = make('b');
      const swatch = make('i', {className: isDashed(i) ? 'dashed' : ''});
      swatch.style.setProperty('--color', 'var(--series-' + (i % 6 + 1) + ')');
      const button = make('button', {className: 'curve', type: 'button', title: 'Show or hide'}, swatch, curve.name, ' ', value);
      button.setAttribute('aria-pressed', 'true');
      button.onclick = () => {
        if (!view.hidden.delete(i)) view.hidden.add(i);
        button.setAttribute('aria-pressed', String(!view.hidden.has(i)));
        update(view);
      };
      view.values.push(value);
      element.append(button);
    });
    for (const curve of view.chart.curves.filter((c) => c.gaps > 0)) {
      const count = curve.gaps === 1 ? 'one point' : curve.gaps + ' points';
      element.after(make('p', {className: 'gaps'}, `${curve.name}: not finite at ${count}, first at ` +
          `${view.chart.x_name} ${wholeNumber(curve.first_gap)}`));
    }
  }

  let redrawAsked = false;
  function hover(x) {
    hoverX = x;
    if (redrawAsked) return;
    redrawAsked = true;
    requestAnimationFrame(() => {
      redrawAsked = false;
      for (const view of views) {
        view.plot.draw();
        updateReadout(view);
      }
    });
  }

  function followPointer(view, canvas) {
    const point = (event) => {
      const {chartArea: area, scales: {x}} = view.plot;
      const left = Math.min(Math.max(event.clientX - canvas.getBoundingClientRect().left, area.left), area.right);
      hover(x.getValueForPixel(left));
    };
    canvas.addEventListener('pointermove', point);
    canvas.addEventListener('pointerdown', point);
    canvas.addEventListener('pointerleave', () => hover(null));
  }

  function build(figure) {
    const chart = data[Number(figure.dataset.chart)];
    const view = {chart, log: false, hidden: new Set(), shown: [], values: []};
    const canvas = figure.querySelector('canvas');
    buildReadout(view, figure.querySelector('.readout'));
    const scale = make('button', {className: 'scale', type: 'button', title: 'Logarithmic axis'}, 'log');
    scale.setAttribute('aria-pressed', 'false');
    scale.onclick = () => {
      view.log = !view.log;
      scale.setAttribute('aria-pressed', String(view.log));
      update(view);
    };
    view.at = make('span', {className: 'at'});
    figure.querySelector('figcaption').append(view.at, scale);
    view.plot = new Chart(canvas, {
      type: 'line', data: {datasets: datasetsOf(view)}, plugins: [crosshair],
      options: {
        view, animation: false, responsive: true, maintainAspectRatio: false, events: [], normalized: true,
        layout: {padding: {top: 6, right: 6}}, scales: axes(view),
        plugins: {legend: {display: false}, tooltip: {enabled: false}},
      },
    });
    followPointer(view, canvas);
    updateReadout(view);
    views.push(view);
  }

  function buildSmoothing(tools) {
    const slider = make('input', {type: 'range', min: 0, max: 0.99, step: 0.01, value: smoothing});
    const output = make('output', {}, smoothing.toFixed(2));
    slider.oninput = () => {
      smoothing = Number(slider.value);
      output.textContent = smoothing.toFixed(2);
      views.forEach(update);
    };
    tools.append(make('label', {}, 'Smoothing', slider), output);
  }

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  document.querySelectorAll('.chart').forEach(build);
  const anySmooth = data.some((chart) => chart.smooth && chart.curves.some(isDense));
  if (anySmooth) document.querySelectorAll('.tools').forEach(buildSmoothing);

  const restyle = () => views.forEach(update);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', restyle);

  // On paper: light, everything unfolded, canvases at the paper's width.
  const folded = () => document.querySelectorAll('details:not([open])');
  let opened = [];
  addEventListener('beforeprint', () => {
    document.documentElement.dataset.print = '';
    opened = [...folded()];
    opened.forEach((details) => { details.open = true; });
    restyle();
    views.forEach((view) => view.plot.resize());
  });
  addEventListener('afterprint', () => {
    delete document.documentElement.dataset.print;
    opened.forEach((details) => { details.open = false; });
    restyle();
    views.forEach((view) => view.plot.resize());
  });
})();
