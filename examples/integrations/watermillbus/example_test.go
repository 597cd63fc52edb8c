package watermillbus_test

import (
	"context"
	"log"
	"net/http"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	natsgo "github.com/nats-io/nats.go"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/integrations/watermillbus"
)

// overKafka: one topic, whose partitions keep the order of a key. Create it with as many
// partitions as the servers have cores in all.
func overKafka(brokers []string) (*watermillbus.Bus, error) {
	marshaler := kafka.NewWithPartitioningMarshaler(func(_ string, msg *message.Message) (string, error) {
		return watermillbus.Key(msg), nil
	})
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: brokers, Marshaler: marshaler}, nil)
	if err != nil {
		return nil, err
	}
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest // a new group receives what was published before it came
	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: brokers, Unmarshaler: marshaler, OverwriteSaramaConfig: config, ConsumerGroup: "realtime",
	}, nil)
	if err != nil {
		return nil, err
	}
	return watermillbus.New(watermillbus.Config{Publisher: publisher, Subscriber: subscriber})
}

// overNATS: streams of JetStream, each with a durable consumer that all servers share.
// MaxAckPending keeps the order.
func overNATS(url string) (*watermillbus.Bus, error) {
	stream := nats.JetStreamConfig{
		AutoProvision:     true,
		DurablePrefix:     "realtime",
		DurableCalculator: func(prefix, topic string) string { return prefix + "-" + topic },
		SubscribeOptions:  []natsgo.SubOpt{natsgo.DeliverAll(), natsgo.AckExplicit(), natsgo.MaxAckPending(1)},
	}
	publisher, err := nats.NewPublisher(nats.PublisherConfig{URL: url, JetStream: stream}, nil)
	if err != nil {
		return nil, err
	}
	subscriber, err := nats.NewSubscriber(nats.SubscriberConfig{URL: url, QueueGroupPrefix: "realtime", JetStream: stream}, nil)
	if err != nil {
		return nil, err
	}
	return watermillbus.New(watermillbus.Config{Publisher: publisher, Subscriber: subscriber, Partitions: 16})
}

// overRabbitMQ: durable queues, each with one active consumer, which has one message in flight.
func overRabbitMQ(url string) (*watermillbus.Bus, error) {
	config := amqp.NewDurableQueueConfig(url) // its prefetch count is 1
	config.Queue.Arguments = amqp091.Table{"x-single-active-consumer": true}
	publisher, err := amqp.NewPublisher(config, nil)
	if err != nil {
		return nil, err
	}
	subscriber, err := amqp.NewSubscriber(config, nil)
	if err != nil {
		return nil, err
	}
	return watermillbus.New(watermillbus.Config{Publisher: publisher, Subscriber: subscriber, Partitions: 16})
}

// overPostgres: tables, each with one row in flight. Subscribing takes a connection of the pool
// for each of them, and each looks for rows ten times a second.
func overPostgres(pool *pgxpool.Pool) (*watermillbus.Bus, error) {
	// With a larger batch, rows would be acked that no handler has seen.
	schema := sql.PostgreSQLQueueSchema{SubscribeBatchSize: 1}
	publisher, err := sql.NewPublisher(sql.BeginnerFromPgx(pool), sql.PublisherConfig{
		SchemaAdapter: schema, AutoInitializeSchema: true,
	}, nil)
	if err != nil {
		return nil, err
	}
	subscriber, err := sql.NewSubscriber(sql.BeginnerFromPgx(pool), sql.SubscriberConfig{
		SchemaAdapter: schema, OffsetsAdapter: sql.PostgreSQLQueueOffsetsAdapter{DeleteOnAck: true}, InitializeSchema: true,
		PollInterval: 100 * time.Millisecond, ResendInterval: 100 * time.Millisecond,
	}, nil)
	if err != nil {
		return nil, err
	}
	return watermillbus.New(watermillbus.Config{Publisher: publisher, Subscriber: subscriber, Partitions: 4})
}

// A server on any of them.
func ExampleNew() { //nolint:testableexamples // it needs a broker
	bus, err := overKafka([]string{"10.0.0.7:9092"})
	if err != nil {
		log.Fatal(err)
	}
	var options realtime.Options // with the host's Tokens, Users and so on
	options.Bus = bus
	rt, err := realtime.New(options)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle(realtime.Path, rt)
	server := &http.Server{Addr: ":3000", ReadHeaderTimeout: 10 * time.Second}
	// ... serve, until the process is asked to end.
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	if err := realtime.Shutdown(ctx, server, rt); err != nil {
		log.Print(err)
	}
	if err := bus.Close(ctx); err != nil {
		log.Print(err)
	}
}

func ExampleNew_nats() { //nolint:testableexamples // it needs a broker
	bus, err := overNATS("nats://10.0.0.7:4222")
	_, _ = bus, err
}

func ExampleNew_rabbitMQ() { //nolint:testableexamples // it needs a broker
	bus, err := overRabbitMQ("amqp://10.0.0.7:5672")
	_, _ = bus, err
}

func ExampleNew_postgres() { //nolint:testableexamples // it needs a Postgres
	pool, err := pgxpool.New(context.Background(), "postgres://10.0.0.7/dispatch")
	if err != nil {
		log.Fatal(err)
	}
	bus, err := overPostgres(pool)
	_, _ = bus, err
}
