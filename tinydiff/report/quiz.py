"""How the report ends: the one idea to keep, and three questions with folded answers.

Read first: `page.py`.
"""

INSIGHT = """<section class="insight" id="insight">
<p><b>The key insight.</b> Nobody can say how to draw a cat in one step. But from a noisy picture to one with a little less noise is a small
step, a network can learn it from examples, and the examples are free: add the noise yourself, and you know the answer.</p>
<p>So drawing becomes guessing, many times over. The same small network is used at every step; what changes is t, which tells it how much
of what it sees to believe.</p>
</section>"""


def quiz(config) -> str:
    """Three questions on what the page has shown, the answers with the run's own figures."""
    T, steps = config["train"]["T"], config["train"]["steps"]
    height, width, channels = config["data"]["shape"]
    questions = [
        ("Training picks a random t for each picture. Why doesn't it have to add the noise step by step, from 0 up?",
         f"""A sum of Gaussian noises is Gaussian noise, so
x<sub>t</sub> = &alpha;<sub>t</sub> x<sub>0</sub> + &sigma;<sub>t</sub> &epsilon;
reaches any of the {T:,} times in one jump. A training step costs the same at t = 0 as at t = {T - 1}, and each picture is an exercise at
every level of noise."""),
        ("At the largest t hardly any of the picture is left. What does the network's first guess of x<sub>0</sub> look like, and why?",
         """Like a soft blot in the average colours. The squared error is least for the mean of all pictures that could be under this noise,
and at the largest t that is nearly every picture there is. It is no failure: moving towards the mean is the right first step, and as
the noise falls fewer pictures remain possible and the guess becomes sharp."""),
        ("The training loss goes on falling, the held-out loss turns up. What has happened, and how would you see it in the pictures?",
         f"""The network has begun to memorise: it knows the noise on its own training pictures better than on pictures it has never met.
The samples would look ever more like particular training pictures. More pictures, fewer epochs or a smaller network help: what is to turn
{height * width * channels:,} random numbers into something new in {steps} steps must know what pictures have in common,
not the pictures."""),
    ]
    items = "".join(f"<details><summary>{question}</summary><p>{answer}</p></details>" for question, answer in questions)
    return f'<section id="quiz"><h2><b>?</b> Three questions</h2><div class="quiz">{items}</div></section>'
