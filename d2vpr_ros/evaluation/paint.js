// How the plan is drawn.

const TICK = 11; // pixels at most
const MANY = 4000; // from here on places are drawn as plain squares

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let waiting = false;

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    paint();
  });
}

function paint() {
  const sharpness = window.devicePixelRatio || 1;
  const { width, height } = size;
  if (canvas.width !== Math.round(width * sharpness) || canvas.height !== Math.round(height * sharpness)) {
    canvas.width = Math.round(width * sharpness);
    canvas.height = Math.round(height * sharpness);
  }
  brush.setTransform(sharpness, 0, 0, sharpness, 0, 0);
  brush.clearRect(0, 0, width, height);
  brush.font = "11px system-ui, sans-serif";
  paintGrid(width, height);
  if (data.loops && world === plan && showsLoops()) paintLoops();
  paintPlaces(width, height);
  if (chosen >= 0) paintChosen();
  paintScaleBar(height);
  if (world === earth || data.compass) paintNorth(width);
}

// The largest of 1, 2, 5 times a power of ten that is at most `most`.
function round125(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].find((factor) => factor * power <= most * (1 + 1e-9)) * power;
}

function paintGrid(width, height) {
  const [west, north] = toWorld(0, 0);
  const [east, south] = toWorld(width, height);
  const onEarthNow = world === earth;
  const perU = onEarthNow ? earth.shrink : 1; // metres per unit of the labels
  const perV = onEarthNow ? METRES_PER_DEGREE : 1;
  const [originU, originV] = onEarthNow ? [earth.longitude, earth.latitude] : [0, 0];
  const label = (value, step) => {
    const text = value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
    return onEarthNow ? `${text}°` : text;
  };
  const lines = (low, high, per, origin, mark) => {
    const step = round125(160 / view.scale / per);
    const first = Math.ceil((low / per + origin) / step);
    for (let k = 0; k < 60 && (first + k) * step <= high / per + origin; k++) {
      const value = (first + k) * step;
      mark((value - origin) * per, label(value, step));
    }
  };
  brush.lineWidth = 1;
  brush.strokeStyle = colour("--line");
  brush.fillStyle = colour("--soft");
  brush.textBaseline = "bottom";
  brush.textAlign = "center";
  lines(west, east, perU, originU, (u, text) => {
    const x = Math.round(toScreen(u, 0)[0]) + 0.5;
    stroke([x, 0], [x, height - 18]);
    if (x > 30 && x < width - 30) brush.fillText(text, x, height - 3);
  });
  if (!data.metric && world === plan) return; // a row has no height
  brush.textAlign = "left";
  lines(south, north, perV, originV, (v, text) => {
    const y = Math.round(toScreen(0, v)[1]) + 0.5;
    stroke([0, y], [width, y]);
    if (y > 30 && y < height - 60) brush.fillText(text, 5, y - 1);
  });
}

function stroke(from, to) {
  brush.beginPath();
  brush.moveTo(...from);
  brush.lineTo(...to);
  brush.stroke();
}

function paintPlaces(width, height) {
  const bySession = data.sessions.map(() => []);
  const apart = data.spacing * view.scale; // pixels
  const radius = between(1.7, 0.25 * apart, 4);
  const tick = between(5, 1.6 * apart, TICK);
  let visible = 0;
  for (let row = 0; row < count; row++) {
    if (!isShown(row)) continue;
    const [x, y] = toScreen(world.u[row], world.v[row]);
    if (x < -TICK || y < -TICK || x > width + TICK || y > height + TICK) continue;
    bySession[place.session[row]].push([row, x, y]);
    visible++;
  }
  bySession.forEach((points, session) => {
    brush.globalAlpha = emphasised >= 0 && emphasised !== session ? 0.12 : 0.85;
    brush.fillStyle = brush.strokeStyle = colour(`--c${session % 10}`);
    if (visible > MANY) {
      let [lastX, lastY] = [NaN, NaN];
      for (const [, x, y] of points) {
        if (Math.abs(x - lastX) < 0.7 && Math.abs(y - lastY) < 0.7) continue; // would hide it
        brush.fillRect(x - 1.2, y - 1.2, 2.4, 2.4);
        [lastX, lastY] = [x, y];
      }
      return;
    }
    brush.lineWidth = 1.2;
    brush.beginPath();
    for (const [row, x, y] of looking ? points : []) {
      brush.moveTo(x, y);
      brush.lineTo(x + tick * looking[row][0], y - tick * looking[row][1]);
    }
    brush.stroke();
    brush.beginPath();
    for (const [, x, y] of points) {
      brush.moveTo(x + radius, y);
      brush.arc(x, y, radius, 0, 2 * Math.PI);
    }
    brush.fill();
  });
  brush.globalAlpha = 1;
}

// Where odometry alone had the places, and which of them were seen twice.
function paintLoops() {
  const [a, b] = data.axes;
  const { before, closures } = data.loops;
  brush.lineWidth = 1;
  brush.setLineDash([5, 4]);
  brush.strokeStyle = colour("--soft");
  brush.beginPath();
  for (let row = 0; row < count; row++) {
    if (!before[row]) continue;
    const goesOn = row > 0 && before[row - 1] && place.session[row] === place.session[row - 1];
    brush[goesOn ? "lineTo" : "moveTo"](...toScreen(before[row][a], before[row][b]));
  }
  brush.stroke();
  brush.setLineDash([]);
  const at = (row) => (before[row] ? toScreen(before[row][a], before[row][b]) : toScreen(plan.u[row], plan.v[row]));
  for (const believed of [true, false]) {
    brush.strokeStyle = colour(believed ? "--accent" : "--ink");
    brush.lineWidth = believed ? 1.5 : 3;
    brush.beginPath();
    for (const [old, now, isBelieved] of closures) {
      if (isBelieved !== believed || !isShown(old) || !isShown(now)) continue;
      brush.moveTo(...at(old));
      brush.lineTo(...at(now));
    }
    brush.stroke();
  }
}

function paintChosen() {
  if (Number.isNaN(world.u[chosen])) return;
  const [x, y] = toScreen(world.u[chosen], world.v[chosen]);
  if (looking && Math.hypot(...looking[chosen]) > 0.34) {
    const heading = Math.atan2(-looking[chosen][1], looking[chosen][0]);
    brush.globalAlpha = 0.25;
    brush.fillStyle = colour("--ink");
    brush.beginPath();
    brush.moveTo(x, y);
    brush.arc(x, y, 34, heading - 0.5, heading + 0.5);
    brush.fill();
    brush.globalAlpha = 1;
  }
  brush.fillStyle = colour(`--c${place.session[chosen] % 10}`);
  brush.strokeStyle = colour("--ink");
  brush.lineWidth = 2.5;
  brush.beginPath();
  brush.arc(x, y, 6.5, 0, 2 * Math.PI);
  brush.fill();
  brush.stroke();
}

function paintScaleBar(height) {
  const length = round125(150 / view.scale);
  const [left, y] = [12, height - 28];
  const right = left + length * view.scale;
  brush.strokeStyle = brush.fillStyle = colour("--ink");
  brush.lineWidth = 2;
  brush.beginPath();
  brush.moveTo(left, y - 5);
  brush.lineTo(left, y);
  brush.lineTo(right, y);
  brush.lineTo(right, y - 5);
  brush.stroke();
  brush.textAlign = "left";
  brush.textBaseline = "bottom";
  const isLong = length >= 1000;
  const unit = data.metric || world === earth ? (isLong ? "km" : length < 0.01 ? "mm" : length < 1 ? "cm" : "m") : "frames";
  const inUnit = { km: length / 1000, mm: length * 1000, cm: length * 100 }[unit] ?? length;
  brush.fillText(`${Number(inUnit.toPrecision(3))} ${unit}`, left, y - 7);
}

function paintNorth(width) {
  const [x, y] = [width - 22, 34];
  brush.fillStyle = colour("--soft");
  brush.beginPath();
  brush.moveTo(x, y - 16);
  brush.lineTo(x - 6, y);
  brush.lineTo(x, y - 4);
  brush.lineTo(x + 6, y);
  brush.fill();
  brush.textAlign = "center";
  brush.textBaseline = "top";
  brush.fillText("N", x, y + 2);
}
