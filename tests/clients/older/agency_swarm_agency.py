"""Agency Swarm 0.7: an agency of one agent, which keeps its settings in the working folder."""

import warnings

from agency_swarm import Agency, Agent, BaseTool

warnings.simplefilter("ignore")
cities = []


class get_weather(BaseTool):
    """Tell the weather of a city."""

    city: str

    def run(self) -> str:
        cities.append(self.city)
        return f"20 in {self.city}"


agent = Agent(name="weather", instructions="Be brief.", tools=[get_weather], model="gpt-4o")
agency = Agency([agent], temperature=0.5)
assert agency.get_completion("hello") == "hello"
assert agency.get_completion("the weather in Rome?") == "It is 20 degrees."
assert cities == ["Rome"]
agent.delete()
