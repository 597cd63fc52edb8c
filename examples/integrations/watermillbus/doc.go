// Package watermillbus carries domain events over any Pub/Sub of Watermill: Kafka, NATS
// JetStream, RabbitMQ, a table of Postgres, and others. It is a realtime.EventBus.
//
//	bus, err := watermillbus.New(watermillbus.Config{Publisher: publisher, Subscriber: subscriber})
//	...
//	rt, err := realtime.New(realtime.Options{Bus: bus, ...})
//	...
//	err = bus.Close(ctx) // after realtime.Shutdown; then close subscriber and publisher
//
// # Messages
//
// An event is one message. Its UUID is the event's id, its payload the JSON of the event, and
// its metadata has event_name, event_key, event_at (RFC 3339) and, with the prefix "header.", its
// headers. Name, key and headers are percent-encoded as in the path of a URL, so that brokers
// whose headers are ASCII carry them.
// Any process may publish such messages.
//
// # Order
//
// The Bus handles one event of a key at a time, in the order in which the Pub/Sub hands them
// out. So a trip's events keep their order if the Pub/Sub hands out the messages of a topic, or
// of a partition within it, in order, and repeats one that was nacked before the next one:
//
//   - Kafka does, if Key is the key of its partitions. Config.Partitions is 1.
//   - Postgres (watermill-sql) does, with PostgreSQLQueueSchema and a SubscribeBatchSize of 1.
//   - RabbitMQ does, with a prefetch count of 1 and a single active consumer for each queue.
//   - NATS JetStream does, with MaxAckPending 1 on a durable consumer.
//   - GoChannel does only with BlockPublishUntilSubscriberAck, and Publish must then not be
//     called by a handler.
//
// The last four have one message of a topic in flight, so Config.Partitions spreads the keys
// over several topics. The examples of New show each configuration.
//
// # Delivery
//
// At least once: a message is acked when all handlers have returned nil for its event, and
// nacked when one has not. A server does not send an event again that it has handled recently,
// and clients recognize a repeat by its eventId. A message that cannot be read, and an event for
// which a handler fails Config.Attempts times, is passed to Config.Poison and not delivered
// again.
//
// Most Pub/Subs deliver a message again if it is not acked within about 30 s, even while its
// handler runs. The server's own handler takes milliseconds.
package watermillbus
