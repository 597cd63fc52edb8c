"""A client of Python's, which obeys lib/foreign.js: commands come as lines of JSON, and what
happens goes out as such."""
import json
import os
import sys
import threading

import engineio
import socketio

out = threading.Lock()


def say(**what):
    with out:
        print(json.dumps(what), flush=True)


class Everything(socketio.ClientNamespace):
    """All events of a namespace."""

    def trigger_event(self, event, *args):
        if event == 'connect':
            say(kind='connect')
        elif event == 'disconnect':
            say(kind='disconnect', name='disconnect')
        elif event == 'connect_error':
            say(kind='refused', args=list(args))
        else:
            say(kind='event', name=event, args=list(args))


class Reader(engineio.Client):
    """Handles messages as they are read. The stock client does so on a thread each, in any order."""

    def _trigger_event(self, event, *args, run_async=False):
        return super()._trigger_event(event, *args, run_async=False)


class InOrder(socketio.Client):
    def _engineio_client_class(self):
        return Reader


class Client:
    def __init__(self, url, namespace, token, transports, delay, wait, ordered):
        self.token = token
        self.namespace = namespace
        self.sio = (InOrder if ordered else socketio.Client)(
            reconnection_delay=delay, reconnection_delay_max=delay, randomization_factor=0, handle_sigint=False)
        self.sio.register_namespace(Everything(namespace))
        self.target = {
            'url': url, 'auth': lambda: {'token': self.token}, 'transports': transports,
            'namespaces': [namespace], 'wait_timeout': wait,
        }

    def connect(self):
        try:
            self.sio.connect(**self.target)
        except socketio.exceptions.ConnectionError as err:
            say(kind='failed', name=str(err))

    def emit(self, event, args, ack=None):
        callback = (lambda *answer: say(kind='ack', id=ack, args=list(answer))) if ack is not None else None
        self.sio.emit(event, tuple(args), namespace=self.namespace, callback=callback)

    def transport(self):
        say(kind='transport', name=self.sio.transport())


client = None
for line in sys.stdin:
    command = json.loads(line)
    what = command.pop('do')
    try:
        if what == 'create':
            client = Client(**command)
        elif what == 'token':
            client.token = command['token']
        elif what == 'connect':
            threading.Thread(target=client.connect, daemon=True).start()
        elif what == 'disconnect':
            client.sio.disconnect()
        else:
            getattr(client, what)(**command)
    except Exception as err:  # such as an event while nothing is connected
        say(kind='failed', name=repr(err))
os._exit(0)
