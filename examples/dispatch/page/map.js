// The map, on two canvases: the ground, drawn when its size or colors change, and above it the
// traffic, drawn in each frame.

import { distance, toward } from './town.js';

const margin = 26; // pixels around the town
const kinds = ['free', 'busy', 'silent'];
const turns = 90; // directions in which a car is drawn
const cell = 28; // pixels of the square of a car

export class TownMap {
  /** What is drawn above the ground: {me, pickup, dropoff, way}; points of the town. */
  trip = {};
  frames = 0;

  constructor(element, town, fleet) {
    Object.assign(this, { element, town, fleet });
    [this.ground, this.traffic] = element.querySelectorAll('canvas');
    this.calm = matchMedia('(prefers-reduced-motion: reduce)');
    this.calm.onchange = () => { fleet.still = this.calm.matches; };
    fleet.still = this.calm.matches;
    new ResizeObserver(() => this.#resize()).observe(element);
    matchMedia('(prefers-color-scheme: dark)').onchange = () => this.#resize();
    this.#resize();
    this.#next();
  }

  // Without motion, cars jump twice a second instead of moving.
  #next() {
    const frame = () => {
      this.#draw(performance.now());
      this.frames++;
      this.#next();
    };
    if (this.calm.matches) setTimeout(frame, 500);
    else requestAnimationFrame(frame);
  }

  #resize() {
    const { width, height } = this.element.getBoundingClientRect();
    if (!width || !height) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    for (const canvas of [this.ground, this.traffic]) Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const style = getComputedStyle(this.element);
    this.color = (name) => style.getPropertyValue(`--${name}`).trim();
    const xs = this.town.corners.map((c) => c.x);
    const ys = this.town.corners.map((c) => c.y);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    this.scale = Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (high - low));
    this.center = { x: (left + right) / 2, y: (low + high) / 2 };
    Object.assign(this, { width, height, ratio });
    this.#drawGround();
    this.sprites = this.#drawSprites();
  }

  #pixel(p) {
    return [this.width / 2 + (p.x - this.center.x) * this.scale, this.height / 2 - (p.y - this.center.y) * this.scale];
  }

  #path(ctx, points) {
    ctx.beginPath();
    points.forEach((p, i) => (i === 0 ? ctx.moveTo(...this.#pixel(p)) : ctx.lineTo(...this.#pixel(p))));
  }

  #drawGround() {
    const { town, color, scale } = this;
    const ctx = this.ground.getContext('2d');
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.fillStyle = color('land');
    ctx.fillRect(0, 0, this.width, this.height);
    for (const [kind, areas] of [['water', town.water], ['park', town.parks]]) {
      ctx.fillStyle = color(kind);
      for (const { outline } of areas) {
        this.#path(ctx, outline.map(([x, y]) => ({ x, y })));
        ctx.fill();
      }
    }
    ctx.lineJoin = ctx.lineCap = 'round';
    const streets = town.streets.toSorted((a, b) => a.wide - b.wide);
    for (const [name, wider] of [['curb', 2], ['street', 0]]) {
      for (const s of streets) {
        this.#path(ctx, s.corners.map((c) => town.corners[c]));
        ctx.strokeStyle = color(name === 'street' && s.wide ? 'avenue' : name);
        ctx.lineWidth = Math.max(s.wide ? 5 : 3, (s.wide ? 21 : 13) * scale) + wider;
        ctx.stroke();
      }
    }
    if (this.width >= 480) this.#drawNames(ctx);
    for (const { name, corner } of town.places) {
      const [x, y] = this.#pixel(town.corners[corner]);
      ctx.fillStyle = color('place');
      ctx.beginPath();
      ctx.arc(x, y, 4, 0, 7);
      ctx.fill();
      if (this.width >= 480) this.#label(ctx, name, x, y + 13, 'place', '600 11px system-ui, sans-serif');
    }
  }

  // The name of each street, along one of its blocks, where there is room.
  #drawNames(ctx) {
    const { town, color } = this;
    const seen = new Set();
    const places = town.places.map((p) => this.#pixel(town.corners[p.corner]));
    town.streets.forEach((s, n) => {
      if (seen.has(s.name) || s.corners.length < 3) return;
      seen.add(s.name);
      const blocks = s.corners.slice(1).map((c, i) => [s.corners[i], c].map((corner) => this.#pixel(town.corners[corner])));
      const free = blocks.filter(([a, b]) => places.every(([x, y]) => Math.hypot((a[0] + b[0]) / 2 - x, (a[1] + b[1]) / 2 - y - 10) > 44));
      if (free.length === 0) return;
      const [a, b] = free[(n * 3) % free.length];
      let angle = Math.atan2(b[1] - a[1], b[0] - a[0]);
      if (Math.abs(angle) > Math.PI / 2) angle += Math.PI;
      ctx.save();
      ctx.translate((a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      ctx.rotate(angle);
      ctx.font = `${s.wide ? 600 : 400} ${s.wide ? 10.5 : 9.5}px system-ui, sans-serif`;
      ctx.textAlign = 'center';
      ctx.textBaseline = 'middle';
      ctx.lineWidth = 3;
      ctx.strokeStyle = color(s.wide ? 'avenue' : 'street');
      const name = s.name.replace('Calle ', '');
      ctx.strokeText(name, 0, 0);
      ctx.fillStyle = color('name');
      ctx.fillText(name, 0, 0);
      ctx.restore();
    });
  }

  #label(ctx, text, x, y, name, font) {
    ctx.font = font;
    ctx.textAlign = 'center';
    ctx.textBaseline = 'middle';
    ctx.lineWidth = 3.5;
    ctx.strokeStyle = this.color('land');
    ctx.strokeText(text, x, y);
    ctx.fillStyle = this.color(name);
    ctx.fillText(text, x, y);
  }

  // The cars in each direction, drawn once: to copy is faster than to turn. A row has one kind, of
  // the usual size or larger.
  #drawSprites() {
    const canvas = document.createElement('canvas');
    canvas.width = turns * cell * this.ratio;
    canvas.height = kinds.length * 2 * cell * this.ratio;
    const ctx = canvas.getContext('2d');
    for (const [row, name] of [...kinds, ...kinds].entries()) {
      for (let n = 0; n < turns; n++) {
        ctx.setTransform(this.ratio, 0, 0, this.ratio, (n + 0.5) * cell * this.ratio, (row + 0.5) * cell * this.ratio);
        ctx.rotate((n * 2 * Math.PI) / turns);
        const size = row < kinds.length ? 1.1 : 1.5;
        ctx.scale(size, size);
        this.#drawSprite(ctx, this.color(name));
      }
    }
    return canvas;
  }

  /** A car that looks north. */
  #drawSprite(ctx, color) {
    ctx.fillStyle = color;
    ctx.strokeStyle = this.color('rim');
    ctx.lineWidth = 1.2;
    ctx.beginPath();
    ctx.roundRect(-3.8, -7, 7.6, 14, 3);
    ctx.fill();
    ctx.stroke();
    ctx.fillStyle = this.color('rim');
    ctx.fillRect(-2.4, -3.6, 4.8, 2.6); // the windshield
  }

  #draw(now) {
    const { ratio, trip } = this;
    if (!this.sprites) return;
    const ctx = this.traffic.getContext('2d');
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    this.#drawTrip(ctx, now);
    let mine;
    this.fleet.each(now, (car, p, angle, silent) => {
      if (car.id === trip.me) {
        mine = [car, p, angle, silent];
        return;
      }
      this.#drawCar(ctx, car, p, angle, silent, false);
    });
    if (!mine) return;
    const [x, y] = this.#pixel(mine[1]);
    ctx.globalAlpha = 0.25;
    ctx.fillStyle = this.color(mine[3] ? 'silent' : 'mine');
    ctx.beginPath();
    ctx.arc(x, y, 18, 0, 7);
    ctx.fill();
    ctx.globalAlpha = 1;
    this.#drawCar(ctx, ...mine, true);
    this.#label(ctx, mine[3] ? `${trip.name}: no signal` : trip.name, x, y - 25, mine[3] ? 'silent' : 'mine', '700 12px system-ui, sans-serif');
  }

  #drawCar(ctx, car, p, angle, silent, larger) {
    const row = kinds.indexOf(silent ? 'silent' : car.busy ? 'busy' : 'free') + (larger ? kinds.length : 0);
    const turn = ((Math.round((angle * turns) / 360) % turns) + turns) % turns;
    const side = cell * this.ratio;
    const x = this.width / 2 + (p.x - this.center.x) * this.scale - cell / 2;
    const y = this.height / 2 - (p.y - this.center.y) * this.scale - cell / 2;
    ctx.drawImage(this.sprites, turn * side, row * side, side, side, x, y, cell, cell);
  }

  #drawTrip(ctx, now) {
    const { pickup, dropoff, way, me } = this.trip;
    if (way?.length) {
      const start = this.fleet.where(me, now);
      ctx.lineJoin = ctx.lineCap = 'round';
      ctx.lineWidth = 4;
      ctx.strokeStyle = this.color('mine');
      ctx.globalAlpha = 0.75;
      this.#path(ctx, start && this.trip.begun ? ahead(start, way) : way);
      ctx.stroke();
      ctx.globalAlpha = 1;
    }
    for (const [p, name, text] of [[pickup, 'pin', 'A'], [dropoff, 'mine', 'B']]) {
      if (!p) continue;
      const [x, y] = this.#pixel(p);
      ctx.fillStyle = this.color(name);
      ctx.strokeStyle = this.color('rim');
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      ctx.moveTo(x, y);
      ctx.arc(x, y - 18, 9, Math.PI * 0.85, Math.PI * 0.15);
      ctx.closePath();
      ctx.fill();
      ctx.stroke();
      ctx.fillStyle = this.color('rim');
      ctx.font = '700 10px system-ui, sans-serif';
      ctx.textAlign = 'center';
      ctx.textBaseline = 'middle';
      ctx.fillText(text, x, y - 17.5);
    }
  }
}

/** What is left of a way, from a point that is on it or near it. */
function ahead(from, way) {
  let best = { far: Infinity, i: 0 };
  for (let i = 1; i < way.length; i++) {
    const [a, b] = [way[i - 1], way[i]];
    const length = distance(a, b) || 1;
    const part = Math.min(1, Math.max(0, ((from.x - a.x) * (b.x - a.x) + (from.y - a.y) * (b.y - a.y)) / length ** 2));
    const far = distance(from, toward(a, b, part));
    if (far < best.far) best = { far, i };
  }
  return [from, ...way.slice(best.i || 0)];
}
