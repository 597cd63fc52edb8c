// Driver, passenger and admin side by side. Each works like an app: it logs in over REST,
// connects with the token, and after each connect requests its current state.

const pickup = { lat: 23.1352, lng: -82.3599, address: 'Capitolio' };
const dropoff = { lat: 23.1131, lng: -82.4103, address: 'Plaza de la Revolución' };
const positions = ['admin:driver:location:update', 'driver:location:update', 'trip:driver_location'];

class Client {
  constructor(section) {
    this.section = section;
    this.namespace = section.dataset.namespace;
    this.trip = null; // the id of the trip that the buttons act on
    this.offer = null; // the id of the assignment that waits for an answer
    for (const button of section.querySelectorAll('button')) {
      button.onclick = async () => {
        try {
          await this[button.name]();
        } catch (err) {
          this.log(button.name, err.message, 'bad');
        }
      };
    }
  }

  // One line of the log, the newest on top.
  log(name, detail, kind) {
    const line = document.createElement('li');
    const title = document.createElement('b');
    title.textContent = name;
    if (kind) line.className = kind;
    line.append(new Date().toLocaleTimeString(), ' ', title, ' ', typeof detail === 'string' ? detail : JSON.stringify(detail ?? null));
    const list = this.section.querySelector('.log');
    list.prepend(line);
    if (list.children.length > 500) list.lastChild.remove();
  }

  show(what, text) {
    this.section.querySelector('.' + what).textContent = text;
  }

  showTrip() {
    const trip = this.trip ? 'trip ' + this.trip : 'no trip';
    this.show('trip', this.offer ? trip + ', offer ' + this.offer : trip);
  }

  async api(method, path, body) {
    const response = await fetch(path, {
      method,
      headers: this.token ? { Authorization: 'Bearer ' + this.token } : {},
      body: method === 'POST' ? JSON.stringify(body ?? {}) : undefined,
    });
    const answer = await response.json();
    if (!response.ok) {
      throw Object.assign(new Error(answer.error.code + ': ' + answer.error.message), { code: answer.error.code });
    }
    return answer;
  }

  async post(path, body) {
    this.log('POST ' + path, await this.api('POST', path, body), 'own');
  }

  // Emits an event and logs its acknowledgment.
  async send(event, ...args) {
    if (!this.socket) throw new Error('log in first');
    const ack = await this.socket.timeout(5000).emitWithAck(event, ...args);
    this.log(event, ack, ack.ok ? 'own' : 'bad');
    return ack;
  }

  async login() {
    if (this.socket) this.socket.disconnect();
    this.user = this.section.querySelector('select').value;
    this.token = null;
    const signIn = (password) => this.api('POST', '/api/login', { userId: this.user, password });
    this.saveLogin(
      await signIn().catch((err) => {
        const password = err.code === 'forbidden' && prompt('Password');
        if (!password) throw err;
        return signIn(password);
      }),
    );
    this.connect();
  }

  saveLogin(login) {
    this.token = login.token;
    this.expiresAt = Date.parse(login.expiresAt);
  }

  connect() {
    // Each role has a client and a connection of its own. auth is called for each
    // attempt, so that a reconnect sends a fresh token.
    const socket = (this.socket = io(this.namespace, {
      forceNew: true,
      auth: (give) => this.freshToken().then((token) => give({ token })),
    }));
    socket.on('connect', () => {
      this.show('state', 'connected as ' + this.user + ', ' + socket.io.engine.transport.name);
      socket.io.engine.on('upgrade', (transport) => this.show('state', 'connected as ' + this.user + ', ' + transport.name));
      this.catchUp().catch((err) => this.log('catching up', err.message, 'bad'));
    });
    socket.on('disconnect', (reason) => {
      this.show('state', 'not connected: ' + reason);
      this.log('disconnect', reason, 'bad');
    });
    socket.on('connect_error', (err) => {
      this.show('state', 'not connected: ' + err.message);
      this.log('connect_error', err.message + ' ' + JSON.stringify(err.data ?? null), 'bad');
    });
    socket.onAny((event, payload) => {
      if (!positions.includes(event) || !this.hidesPositions()) this.log(event, payload);
      this.follow(event, payload);
    });
  }

  hidesPositions() {
    return this.section.querySelector('[name=hide]')?.checked;
  }

  async freshToken() {
    if (Date.now() > this.expiresAt - 5000) {
      try {
        this.saveLogin(await this.api('POST', '/api/refresh'));
      } catch (err) {
        this.log('refresh', err.message, 'bad'); // the server then refuses the old token
      }
    }
    return this.token;
  }

  async catchUp() {
    if (this.namespace === '/admin') {
      const { trips } = await this.api('GET', '/api/admin/trips');
      this.trip = trips.at(-1)?.tripId ?? null;
    } else {
      const { trip, offer } = await this.api('GET', '/api/trips/current');
      this.trip = trip?.tripId ?? offer?.tripId ?? null;
      this.offer = offer?.assignmentId ?? null;
    }
    this.showTrip();
  }

  // Remembers what the buttons act on.
  follow(event, payload) {
    switch (event) {
      case 'trip:assignment:offered':
        if (this.namespace === '/drivers') this.offer = payload.assignmentId;
        this.trip = payload.tripId;
        break;
      case 'trip:assignment:accepted':
        this.offer = null;
        break;
      case 'trip:assignment:expired':
      case 'trip:assignment:cancelled':
        this.offer = null;
        if (this.namespace === '/drivers') this.trip = null;
        break;
      case 'trip:requested':
      case 'trip:driver_assigned':
        this.trip = payload.tripId;
        break;
      case 'trip:completed':
      case 'trip:cancelled':
      case 'trip:no_drivers_found':
        if (this.trip === payload.tripId) this.trip = null;
        break;
    }
    this.showTrip();
  }

  // Gets a new token in a new session, and moves the open socket to it.
  async refresh() {
    this.saveLogin(await this.api('POST', '/api/refresh'));
    await this.send('auth:refresh', { token: this.token });
  }

  logout() {
    return this.post('/api/logout');
  }

  request() {
    return this.post('/api/trips', { pickup, dropoff });
  }

  onTrip(what, body) {
    if (!this.trip) throw new Error('no trip');
    return this.post('/api/trips/' + this.trip + '/' + what, body);
  }

  arriving() {
    return this.onTrip('arriving');
  }

  arrived() {
    return this.onTrip('arrived');
  }

  start() {
    return this.onTrip('start');
  }

  complete() {
    return this.onTrip('complete');
  }

  cancel() {
    return this.onTrip('cancel', { reason: 'button' });
  }

  async available() {
    const here = { lat: pickup.lat + 0.002, lng: pickup.lng };
    await this.send('driver:location:ping', here);
    // A position that is too old is as good as none, also of a driver who stands still.
    clearInterval(this.standing);
    this.standing = setInterval(() => this.socket?.connected && this.socket.emit('driver:location:ping', here), 45_000);
    await this.send('driver:status:update', { isOnline: true, isAvailableForTrips: true });
  }

  offline() {
    clearInterval(this.standing);
    return this.send('driver:status:update', { isOnline: false });
  }

  accept() {
    return this.send('driver:offer:accept', { assignmentId: this.offer });
  }

  async reject() {
    const ack = await this.send('driver:offer:reject', { assignmentId: this.offer, reason: 'button' });
    if (!ack.ok) return;
    this.trip = this.offer = null;
    this.showTrip();
  }

  join() {
    return this.send('admin:trip:join', { tripId: this.trip });
  }

  leave() {
    return this.send('admin:trip:leave', { tripId: this.trip });
  }

  message() {
    if (!this.trip) throw new Error('no trip');
    return this.post('/api/admin/trips/' + this.trip + '/message', { to: 'both', message: 'Hello from the office' });
  }
}

for (const section of document.querySelectorAll('section')) {
  const client = new Client(section);
  if (section.querySelector('option')) client.login().catch((err) => client.log('login', err.message, 'bad'));
}
