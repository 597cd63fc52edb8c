// The cars: each moves from where it is drawn to its newest position, along streets, within the
// time between two positions. Positions come once a second.

import { distance, heading, toward } from './town.js';

const silentAfter = 2_500; // milliseconds without a position
const forgottenAfter = 120_000;

export class Fleet {
  cars = new Map(); // by the driver's id
  still = false; // jump instead of moving

  constructor(town) {
    this.town = town;
  }

  #car(id) {
    let car = this.cars.get(id);
    if (!car) this.cars.set(id, (car = { id, busy: false }));
    return car;
  }

  /** A driver is on a trip, or not. */
  setBusy(id, busy) {
    this.#car(id).busy = busy;
  }

  update({ driverId, lastLocation, heading: course }, now) {
    const car = this.#car(driverId);
    const to = this.town.point(lastLocation);
    const from = car.leg ? at(car, now) : to;
    const was = car.course;
    car.course = course ?? (distance(from, to) > 1 ? heading(from, to) : (was ?? 0));
    const jump = this.still || distance(from, to) > 400;
    const points = jump ? [to, to] : [from, ...around(from, to, was, car.course), to];
    const lasts = Math.min(1_400, Math.max(250, now - (car.seen ?? now - 1_000)));
    car.leg = { points, began: now, lasts, lengths: points.slice(1).map((p, i) => distance(points[i], p)) };
    car.leg.length = car.leg.lengths.reduce((a, b) => a + b, 0);
    car.seen = now;
    car.angle ??= car.course;
  }

  /** Where the cars are now: calls f(car, point, angle, silent) for each. */
  each(now, f) {
    for (const car of this.cars.values()) {
      if (!car.leg) continue;
      const age = now - car.seen;
      if (age > forgottenAfter) {
        this.cars.delete(car.id);
        continue;
      }
      const p = at(car, now);
      const aim = car.leg.length > 1 ? (car.aim ?? car.course) : car.course;
      const turn = ((aim - car.angle + 540) % 360) - 180;
      car.angle += this.still ? turn : turn * 0.18; // a part of it in each frame
      f(car, p, car.angle, age > silentAfter);
    }
  }

  /** Where one car is drawn, or undefined. */
  where(id, now) {
    const car = this.cars.get(id);
    return car?.leg && at(car, now);
  }
}

/** Where a car is on its leg; sets its aim. */
function at(car, now) {
  const { points, lengths, length, began, lasts } = car.leg;
  let left = length * Math.min(1, (now - began) / lasts);
  for (let i = 0; i < lengths.length; i++) {
    if (left <= lengths[i] || i === lengths.length - 1) {
      if (lengths[i] > 0.5) car.aim = heading(points[i], points[i + 1]);
      return lengths[i] > 0 ? toward(points[i], points[i + 1], Math.min(1, left / lengths[i])) : points[i + 1];
    }
    left -= lengths[i];
  }
  return points.at(-1);
}

/** The corner between two positions, if the car has turned there: where its two courses meet. */
function around(from, to, before, after) {
  const turn = Math.abs((((after - before + 540) % 360) + 360) % 360 - 180);
  if (before === undefined || turn < 25 || turn > 155) return [];
  const [a, b] = [before, after].map((d) => ({ x: Math.sin((d * Math.PI) / 180), y: Math.cos((d * Math.PI) / 180) }));
  const cross = a.x * b.y - a.y * b.x;
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const along = (dx * b.y - dy * b.x) / cross;
  const corner = { x: from.x + a.x * along, y: from.y + a.y * along };
  const far = Math.hypot(dx, dy);
  return along > 0 && along < far * 1.2 && distance(corner, to) < far * 1.2 ? [corner] : [];
}
