"use strict";

// The plan of a map's places: where each is, and which part of the plane is in view. `data` comes from view.py.

const between = (least, value, most) => Math.min(most, Math.max(least, value));
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const place = data.place;
const count = place.id.length;
const canvas = element("canvas");
const brush = canvas.getContext("2d");

const METRES_PER_DEGREE = 111195; // of a sphere with the earth's mean radius: good to 0.4 % for the scale bar
const REACH = 16; // how near a click has to be

// ---- Where places are drawn: metres to the right and up, on the plan or on the earth.

function onPlan() {
  const [a, b] = data.axes;
  if (data.metric) {
    return { u: place.position.map((p) => p[a]), v: place.position.map((p) => p[b]) };
  }
  // Without metres a place's x is its number: one row for each session.
  const longest = place.position.reduce((most, p) => Math.max(most, p[0]), 1);
  const gap = Math.max(1, longest / (4 * Math.max(2, data.sessions.length)));
  return { u: place.position.map((p) => p[0]), v: place.session.map((session) => -gap * session) };
}

function onEarth() {
  const first = place.geo.find((geo) => geo[0] !== null && geo[1] !== null);
  if (!first) return null;
  const [latitude, longitude] = first;
  const shrink = Math.max(0.01, Math.cos((latitude * Math.PI) / 180)) * METRES_PER_DEGREE;
  const east = (degrees) => ((((degrees - longitude + 180) % 360) + 360) % 360) - 180; // the short way round
  return {
    u: place.geo.map((geo) => (geo[0] === null || geo[1] === null ? NaN : east(geo[1]) * shrink)),
    v: place.geo.map((geo) => (geo[0] === null || geo[1] === null ? NaN : (geo[0] - latitude) * METRES_PER_DEGREE)),
    latitude,
    longitude,
    shrink,
  };
}

// The camera's optical axis (z of its rotation), projected on the plan.
function lookingAlong([x, y, z, w]) {
  const axis = [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)];
  return [axis[data.axes[0]], axis[data.axes[1]]];
}

const plan = onPlan();
const earth = onEarth();
const looking = data.metric ? place.quaternion.map(lookingAlong) : null;
let world = plan;
let view = { u: 0, v: 0, scale: 1 }; // the middle, and pixels per metre
let size = { width: 0, height: 0 }; // of the canvas in pixels; asking it each time is slow
let chosen = -1;
let emphasised = -1;
const shownSessions = data.sessions.map(() => true);
const shownCameras = data.cameras.map(() => true);
const showsLoops = () => element("loops")?.checked;

const isShown = (row) => shownSessions[place.session[row]] && shownCameras[place.camera[row]] && !Number.isNaN(world.u[row]);
const toScreen = (u, v) => [(u - view.u) * view.scale + size.width / 2, size.height / 2 - (v - view.v) * view.scale];
const toWorld = (x, y) => [(x - size.width / 2) / view.scale + view.u, (size.height / 2 - y) / view.scale + view.v];

function bounds() {
  let [west, east, south, north] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let row = 0; row < count; row++) {
    if (!isShown(row)) continue;
    west = Math.min(west, world.u[row]);
    east = Math.max(east, world.u[row]);
    south = Math.min(south, world.v[row]);
    north = Math.max(north, world.v[row]);
  }
  return { west, east, south, north };
}

function fittingScale({ west, east, south, north }) {
  const width = Math.max(east - west, 1e-3);
  const height = Math.max(north - south, 1e-3);
  return Math.min((size.width - 90) / width, (size.height - 80) / height, 200);
}

function fit() {
  const around = bounds();
  if (around.west > around.east) return;
  view = { u: (around.west + around.east) / 2, v: (around.south + around.north) / 2, scale: fittingScale(around) };
  draw();
}

function zoom(factor, x = size.width / 2, y = size.height / 2) {
  const [u, v] = toWorld(x, y);
  view.scale = between(1e-5, view.scale * factor, 5000);
  const [nowU, nowV] = toWorld(x, y);
  view.u += u - nowU;
  view.v += v - nowV;
  draw();
}

function move(x, y) {
  view.u -= x / view.scale;
  view.v += y / view.scale;
  draw();
}
