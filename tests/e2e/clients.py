"""What serve_test.py has other people's clients do; runs in the Python that has them (tools/setup --tests makes it).

    clients.py NAME PORT RECORDING...     prints one JSON object
"""

import asyncio
import base64
import json
import sys
import wave


def pcm_of(path):
    with wave.open(path, "rb") as file:
        return file.readframes(file.getnframes()), file.getframerate()


def openai_client(port):
    import openai
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", max_retries=0,
                         websocket_base_url=f"ws://127.0.0.1:{port}/v1")


def openai_file(port, path):
    client = openai_client(port)
    model = client.models.list().data[0].id

    def create(**options):
        with open(path, "rb") as file:
            return client.audio.transcriptions.create(file=file, model=model, **options)

    verbose = create(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    streamed = list(create(stream=True))
    return {"text": create().text, "srt": create(response_format="srt"), "vtt": create(response_format="vtt"),
            "verbose": verbose.text, "words": [w.word for w in verbose.words], "duration": verbose.duration,
            "deltas": "".join(e.delta for e in streamed if e.type == "transcript.text.delta"),
            "done": [e.text for e in streamed if e.type == "transcript.text.done"]}


def openai_realtime(port, path):
    pcm, rate = pcm_of(path)
    client = openai_client(port)
    with client.realtime.connect(model=client.models.list().data[0].id,
                                 extra_query={"intent": "transcription"}) as connection:
        connection.session.update(session={"type": "transcription", "audio": {"input": {
            "format": {"type": "audio/pcm", "rate": rate}, "turn_detection": None}}})
        for at in range(0, len(pcm), 4800):
            connection.input_audio_buffer.append(audio=base64.b64encode(pcm[at:at + 4800]).decode())
        connection.input_audio_buffer.commit()
        deltas = ""
        for event in connection:
            if event.type == "error":
                return {"error": event.error.message}
            if event.type == "conversation.item.input_audio_transcription.delta":
                deltas += event.delta
            if event.type == "conversation.item.input_audio_transcription.completed":
                return {"deltas": deltas, "text": event.transcript}


def vosk(port, path):
    import websockets.sync.client
    pcm, rate = pcm_of(path)
    answers = []
    with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/vosk") as socket:
        socket.send(json.dumps({"config": {"sample_rate": rate, "words": 1}}))
        for at in range(0, len(pcm), 8000):
            socket.send(pcm[at:at + 8000])
            answers.append(json.loads(socket.recv()))
        socket.send('{"eof": 1}')
        answers.append(json.loads(socket.recv()))
    results = [a for a in answers if "text" in a]
    return {"text": " ".join(a["text"] for a in results if a["text"]),
            "words": [w["word"] for a in results for w in a.get("result", [])],
            "partials": sum("partial" in a for a in answers)}


def wyoming(port, path):
    from wyoming.asr import Transcribe, Transcript
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.info import Describe, Info
    pcm, rate = pcm_of(path)

    async def talk():
        async with AsyncTcpClient("127.0.0.1", int(port)) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await client.read_event())
            await client.write_event(Transcribe(language="en").event())
            await client.write_event(AudioStart(rate, 2, 1).event())
            for at in range(0, len(pcm), 2048):
                await client.write_event(AudioChunk(rate, 2, 1, pcm[at:at + 2048]).event())
            await client.write_event(AudioStop().event())
            while True:
                event = await client.read_event()
                if event is None:
                    return {"error": "closed without a transcript"}
                if Transcript.is_type(event.type):
                    return {"models": [m.name for m in info.asr[0].models], "text": Transcript.from_event(event).text}

    return asyncio.run(talk())


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
