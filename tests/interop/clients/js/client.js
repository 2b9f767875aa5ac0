// kafkajs: write ADDRESS, or read ADDRESS TOPIC... The records are those of ../dataset.py.
//
// kafkajs consumes only in groups, so its own broker class is asked for the Fetch requests here: what is
// sent and how the answer is decoded is the same code. It has gzip of its own and snappy from a package.
'use strict'

const { Kafka, CompressionTypes, CompressionCodecs, Partitioners, logLevel } = require('kafkajs')
const Cluster = require('kafkajs/src/cluster')
const createSocketFactory = require('kafkajs/src/network/socketFactory')
const { createLogger } = require('kafkajs/src/loggers')
const loggerConsole = require('kafkajs/src/loggers/console')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'

const COUNT = 600
const PARTITIONS = 3
const BEGIN_MS = 1700000000000
const WAIT_MS = 20000
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }
let passed = 0
let failed = 0

const valueOf = i => {
  if (i % 50 === 7) return null
  const size = i === 500 ? 400000 : (i * 37) % 1500
  const word = `torc ${i} `
  return Buffer.from(word.repeat(Math.floor(size / word.length) + 1).slice(0, size))
}
const keyOf = i => (i % 50 === 9 ? Buffer.alloc(0) : i % 50 === 11 ? null : Buffer.from(`key-${i}`))
const headersOf = i => (i % 50 === 13 ? {} : { n: Buffer.from(`${i}`), empty: Buffer.alloc(0) })

const expect = (holds, why) => {
  if (!holds) throw new Error(why)
}
const same = (a, b) => (a === null || b === null ? a === b : a.equals(b))

const attempt = async (name, run) => {
  const begin = Date.now()
  let timer
  try {
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('took too long')), WAIT_MS)
    })
    await Promise.race([run(), late])
    passed++
    console.log(`ok    ${name}: ${((Date.now() - begin) / 1000).toFixed(1)} s`)
  } catch (e) {
    failed++
    console.log(`FAIL  ${name}: ${e.name}: ${e.message}`)
  } finally {
    clearTimeout(timer)
  }
}

const kafkaAt = address =>
  new Kafka({ clientId: 'torc-test', brokers: [address], logLevel: logLevel.NOTHING, retry: { retries: 3 } })

const withAdmin = async (address, run) => {
  const admin = kafkaAt(address).admin()
  await admin.connect()
  try {
    return await run(admin)
  } finally {
    await admin.disconnect()
  }
}

const create = (address, topic, numPartitions = PARTITIONS, configEntries = []) =>
  withAdmin(address, admin =>
    admin.createTopics({ topics: [{ topic, numPartitions, configEntries }], waitForLeaders: true })
  )

const write = async (address, codec) => {
  const topic = `kafkajs-${codec}`
  expect(await create(address, topic), 'the topic was there before')
  const producer = kafkaAt(address).producer({
    idempotent: true,
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  for (let from = 0; from < COUNT; from += 150) {
    const messages = []
    for (let i = from; i < from + 150; i++) {
      messages.push({
        key: keyOf(i),
        value: valueOf(i),
        headers: headersOf(i),
        partition: i % PARTITIONS,
        timestamp: `${BEGIN_MS + 1000 * i}`,
      })
    }
    const done = await producer.send({ topic, messages, acks: -1, compression: CODECS[codec] })
    for (const d of done) {
      expect(d.baseOffset === `${from / PARTITIONS}`, `base offset ${d.baseOffset} for ${from}`)
    }
  }
  await producer.disconnect()
}

const check = (partition, message) => {
  const i = Number(message.offset) * PARTITIONS + partition
  expect(same(message.key, keyOf(i)), `record ${i}: key`)
  expect(same(message.value, valueOf(i)), `record ${i}: value`)
  expect(message.timestamp === `${BEGIN_MS + 1000 * i}`, `record ${i}: timestamp`)
  const want = headersOf(i)
  const names = Object.keys(message.headers)
  expect(names.join() === Object.keys(want).join(), `record ${i}: headers ${names}`)
  names.forEach(n => expect(same(message.headers[n], want[n]), `record ${i}: header ${n}`))
}

const read = async (address, topic) => {
  const logger = createLogger({ level: logLevel.NOTHING, logCreator: loggerConsole })
  const cluster = new Cluster({
    logger,
    brokers: [address],
    clientId: 'torc-test',
    connectionTimeout: 5000,
    requestTimeout: 10000,
    enforceRequestTimeout: true,
    socketFactory: createSocketFactory(),
    retry: { retries: 3 },
    metadataMaxAge: 300000,
    offsets: new Map(),
    isolationLevel: 0,
  })
  await cluster.connect()
  await cluster.addTargetTopic(topic)
  const next = Array(PARTITIONS).fill(0)
  let seen = 0
  while (seen < COUNT) {
    const leaders = cluster.findLeaderForPartitions(topic, [0, 1, 2])
    const broker = await cluster.findBroker({ nodeId: Object.keys(leaders)[0] })
    const { responses } = await broker.fetch({
      maxWaitTime: 500,
      minBytes: 1,
      maxBytes: 1048576,
      isolationLevel: 0,
      topics: [
        {
          topic,
          partitions: next.map((offset, partition) => ({
            partition,
            fetchOffset: `${offset}`,
            maxBytes: 65536,
          })),
        },
      ],
    })
    for (const { partition, messages, errorCode } of responses[0].partitions) {
      expect(errorCode === 0, `partition ${partition}: error ${errorCode}`)
      for (const message of messages) {
        if (Number(message.offset) < next[partition]) continue // the head of a batch that was begun
        expect(Number(message.offset) === next[partition], `offset ${message.offset}`)
        next[partition]++
        seen++
        check(partition, message)
      }
    }
  }
  await cluster.disconnect()
}

const offsetsAndTimes = address =>
  withAdmin(address, async admin => {
    const topic = 'kafkajs-none'
    for (const o of await admin.fetchTopicOffsets(topic)) {
      expect(o.low === '0' && o.high === `${COUNT / PARTITIONS}`, JSON.stringify(o))
    }
    for (const o of await admin.fetchTopicOffsetsByTimestamp(topic, BEGIN_MS + 300000)) {
      expect(o.offset === '100', JSON.stringify(o))
    }
  })

const tooLarge = async address => {
  await create(address, 'kafkajs-small', 1, [{ name: 'max.message.bytes', value: '1000' }])
  const producer = kafkaAt(address).producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  try {
    await producer.send({ topic: 'kafkajs-small', messages: [{ value: Buffer.alloc(5000) }] })
  } catch (e) {
    expect(e.type === 'MESSAGE_TOO_LARGE', `${e.type}: ${e.message}`)
    return
  } finally {
    await producer.disconnect()
  }
  throw new Error('a record over max.message.bytes was taken')
}

const adminCalls = address =>
  withAdmin(address, async admin => {
    const topic = 'kafkajs-admin'
    const entries = [{ name: 'retention.ms', value: '3600000' }]
    await admin.createTopics({ topics: [{ topic, numPartitions: 2, configEntries: entries }] })
    expect(!(await admin.createTopics({ topics: [{ topic }] })), 'a topic was created twice')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    const about = await admin.fetchTopicMetadata({ topics: [topic] })
    expect(about.topics[0].partitions.length === 4, JSON.stringify(about))
    expect((await admin.describeCluster()).brokers.length === 1, 'describeCluster')
    const configs = await admin.describeConfigs({
      includeSynonyms: true,
      resources: [{ type: 2, name: topic, configNames: ['retention.ms'] }],
    })
    expect(configs.resources[0].configEntries[0].configValue === '3600000', JSON.stringify(configs))
    await admin.deleteTopicRecords({ topic: 'kafkajs-none', partitions: [{ partition: 0, offset: '0' }] })
    await admin.deleteTopics({ topics: [topic] })
    expect(!(await admin.listTopics()).includes(topic), 'still listed')
  })

const main = async ([mode, address, ...topics]) => {
  if (mode === 'read') {
    for (const topic of topics) await attempt(`reads ${topic}`, () => read(address, topic))
  } else {
    for (const codec of Object.keys(CODECS)) {
      await attempt(`writes ${codec}, idempotent`, () => write(address, codec))
    }
    await attempt('offsets and times', () => offsetsAndTimes(address))
    await attempt('too large', () => tooLarge(address))
    await attempt('admin calls', () => adminCalls(address))
  }
  console.log(`# passed=${passed} failed=${failed} skipped=0`)
  process.exit(failed ? 1 : 0)
}

main(process.argv.slice(2))
