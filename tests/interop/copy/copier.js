// kafkajs as a copier: ADDRESS SOURCE TARGET NAME SIZE, see run.py.
'use strict'

const { Kafka, logLevel } = require('kafkajs')

const [address, source, target, name, sizeText] = process.argv.slice(2)
const size = Number(sizeText)
const pause = ms => new Promise(resolve => setTimeout(resolve, ms))
let count = 0

const copy = async (producer, consumer, partition, messages) => {
  const transaction = await producer.transaction()
  await transaction.send({
    topic: target, acks: -1, messages: messages.map(m => ({ key: m.key, value: m.value, partition }))
  })
  await pause(20) // be found with an open transaction
  count++
  if (count % 5 === 0) {
    await transaction.abort()
    consumer.seek({ topic: source, partition, offset: messages[0].offset })
    console.log('aborted')
    return false
  }
  const offset = String(BigInt(messages[messages.length - 1].offset) + 1n)
  await transaction.sendOffsets({
    consumerGroupId: name, topics: [{ topic: source, partitions: [{ partition, offset }] }]
  })
  await transaction.commit()
  console.log('committed', messages.length)
  return true
}

const main = async () => {
  const kafka = new Kafka({
    clientId: name, brokers: [address], logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 50, retries: 10 }
  })
  const producer = kafka.producer({
    transactionalId: name, idempotent: true, maxInFlightRequests: 1, transactionTimeout: 5000
  })
  await producer.connect()
  const consumer = kafka.consumer({
    groupId: name, sessionTimeout: 3000, heartbeatInterval: 300, maxWaitTimeInMs: 200
  })
  consumer.on(consumer.events.CRASH, e => {
    console.log('error', e.payload.error.message)
    process.exit(3)
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [source], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, isRunning, isStale, resolveOffset, heartbeat }) => {
      for (let at = 0; at < batch.messages.length; at += size) {
        if (!isRunning() || isStale()) return
        const part = batch.messages.slice(at, at + size)
        if (!await copy(producer, consumer, batch.partition, part)) return
        resolveOffset(part[part.length - 1].offset)
        await heartbeat()
      }
    }
  })
}

main().catch(e => {
  console.log('error', e.message)
  process.exit(3)
})
