// The town: streets on which cars drive, and where a position is. x and y are meters east and
// north of its origin.

const meterDegrees = (6_371_000 * Math.PI) / 180; // as in town.go

export const distance = (p, q) => Math.hypot(p.x - q.x, p.y - q.y);
export const toward = (p, q, part) => ({ x: p.x + part * (q.x - p.x), y: p.y + part * (q.y - p.y) });
/** The direction from p to q in degrees, clockwise from north. */
export const heading = (p, q) => ((Math.atan2(q.x - p.x, q.y - p.y) * 180) / Math.PI + 360) % 360;

export class Town {
  constructor(file) {
    Object.assign(this, file);
    this.corners = file.corners.map(([x, y]) => ({ x, y }));
    this.next = this.corners.map(() => []);
    for (const { corners } of this.streets) {
      corners.slice(1).forEach((corner, i) => {
        this.next[corners[i]].push(corner);
        this.next[corner].push(corners[i]);
      });
    }
    this.lngDegree = meterDegrees * Math.cos((this.origin.lat * Math.PI) / 180);
  }

  static async load() {
    const response = await fetch('town.json');
    if (!response.ok) throw new Error('The map could not be loaded.');
    return new Town(await response.json());
  }

  point({ lat, lng }) {
    return { x: (lng - this.origin.lng) * this.lngDegree, y: (lat - this.origin.lat) * meterDegrees };
  }

  position({ x, y }) {
    return { lat: this.origin.lat + y / meterDegrees, lng: this.origin.lng + x / this.lngDegree };
  }

  nearest(p) {
    let best = 0;
    this.corners.forEach((c, i) => { if (distance(p, c) < distance(p, this.corners[best])) best = i; });
    return best;
  }

  /** The points of the shortest way along streets, from near one point to the other. */
  route(from, to) {
    const end = this.nearest(to);
    const left = this.#distances(end);
    const way = [];
    let at = this.nearest(from);
    for (; left[at] > 0 && Number.isFinite(left[at]); ) {
      way.push(this.corners[at]);
      const here = at;
      at = this.next[here].reduce((best, n) => (left[n] + distance(this.corners[here], this.corners[n]) < left[best] + distance(this.corners[here], this.corners[best]) ? n : best));
    }
    // It need not go back to a corner that is behind it.
    if (way.length > 1 && distance(from, way[1]) <= distance(way[0], way[1])) way.shift();
    return [...way, this.corners[end], to];
  }

  #distances(from) {
    const d = this.corners.map(() => Infinity);
    d[from] = 0;
    for (const pending = [from]; pending.length > 0; ) {
      const at = pending.shift();
      for (const n of this.next[at]) {
        const far = d[at] + distance(this.corners[at], this.corners[n]);
        if (far < d[n] - 1e-6) {
          d[n] = far;
          pending.push(n);
        }
      }
    }
    return d;
  }

  /** The name of the street that is nearest to a point. */
  streetAt(p) {
    let best = { name: '', far: Infinity };
    for (const { name, corners } of this.streets) {
      for (let i = 1; i < corners.length; i++) {
        const far = fromSegment(p, this.corners[corners[i - 1]], this.corners[corners[i]]);
        if (far < best.far) best = { name, far };
      }
    }
    return best.name;
  }
}

function fromSegment(p, a, b) {
  const length = distance(a, b) || 1;
  const part = ((p.x - a.x) * (b.x - a.x) + (p.y - a.y) * (b.y - a.y)) / length ** 2;
  return distance(p, toward(a, b, Math.min(1, Math.max(0, part))));
}

/** How long a way is, from a point. */
export function lengthOf(from, way) {
  let total = 0;
  for (const p of way) {
    total += distance(from, p);
    from = p;
  }
  return total;
}
