// kafkajs as a member: ADDRESS TOPIC GROUP COUNT IDLE_S, see members.py.
'use strict'

const { Kafka, logLevel } = require('kafkajs')

const [address, topic, group, countText, idleText] = process.argv.slice(2)
const count = Number(countText)
const idleMs = Number(idleText) * 1000

const main = async () => {
  const kafka = new Kafka({ clientId: 'torc-test', brokers: [address], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({
    groupId: group, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 200
  })
  let last = Date.now() + 10000
  let got = 0
  consumer.on(consumer.events.GROUP_JOIN, e => {
    console.log('assigned', ...(e.payload.memberAssignment[topic] || []).sort())
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  const done = new Promise(resolve => {
    const timer = setInterval(() => {
      if (got < count && Date.now() - last < idleMs) return
      clearInterval(timer)
      resolve()
    }, 50)
  })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      if (got >= count) return
      console.log('record', partition, message.offset)
      last = Date.now()
      got++
      const offset = String(BigInt(message.offset) + 1n)
      await consumer.commitOffsets([{ topic, partition, offset }])
    }
  })
  await done
  await consumer.disconnect()
}

main().catch(e => {
  console.log('error', e.message)
  process.exit(1)
})
